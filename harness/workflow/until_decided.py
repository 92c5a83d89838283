"""`harness reproduce --until-decided`: a planned design, which adds replicates where a claim can still be decided.

The claims are judged with 5, 10 and 20 replicates. A claim goes on to the next look if it is undecided, has a chance to
be decided by the last look at its measured estimates and spreads, and fits into the budget. Which looks are taken
depends on the data; the boundary of each look holds for all of them, so stopping early costs power and never error.
"""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from harness.base.errors import HarnessError
from harness.base.words import duration
from harness.claims.document import ClaimVerdict, read_claims
from harness.estimate.budget import choose
from harness.estimate.costs import Plan
from harness.paper import Spec
from harness.paper.claims import LOOKS
from harness.plan.needs import judged, needs, parse_budget, parse_claims
from harness.results.folders import Folders
from harness.results.open import folders_of, load_scale
from harness.results.selection import as_selected, read_selection
from harness.workflow.reproduce import Request, Selection, reproduce_selection

#: a claim goes on if its chance to be decided by the last look is at least this
LEAST_CHANCE = 0.1
UNLIMITED = 1e12  # seconds


def reproduce_until_decided(root: Path, request: Request, console: Console) -> None:
    """Run the claims at their next planned looks until each is decided, can't be decided, or exceeds the budget.

    Raises HarnessError as `reproduce` does.
    """
    if request.every_replicate or request.until != "report":
        raise HarnessError(
            "--until-decided: chooses replicates and ends with verdicts; omit --every-replicate, --until"
        )
    spec = load_scale(root, request.paper, request.scale)
    folders = folders_of(root, request.results, request.paper, request.scale)
    budget = parse_budget(request.budget) if request.budget else UNLIMITED
    claims = parse_claims(request.claims, spec) if request.claims else judged(spec)
    looks, spent = _recorded(spec, folders, request.budget)

    def run() -> None:
        names = [name for name in judged(spec) if name in looks]
        reproduce_selection(root, request, Selection(names, {"looks": looks, "spent": spent}), console)

    if looks:
        run()  # the last look may have been interrupted
    while True:
        going = {claim: look for claim in claims if (look := _next(spec, claim, looks))}
        if looks:
            going = _open(read_claims(folders.claims), going, looks, console)
        taken, seconds = _affordable(spec, folders, going, looks, budget - spent, console)
        if not taken:
            break
        looks, spent = {**looks, **taken}, spent + seconds
        steps = ", ".join(f"{claim} at {look}" for claim, look in taken.items())
        console.print(f"--until-decided: {steps} replicates; {duration(seconds)} to train and compare", soft_wrap=True)
        run()
    if not looks:
        raise HarnessError(f"--until-decided: no claim of scale {spec.scale_name} fits the budget, or it judges none")


def _recorded(spec: Spec, folders: Folders, budget: str) -> tuple[dict[str, int], float]:
    """The looks that an earlier call has taken, and the seconds that they took of the same budget if it was stopped."""
    before = read_selection(folders) or {}
    looks = {name: look for name, look in before.get("looks", {}).items() if name in judged(spec)}
    stopped = budget and before.get("budget") == budget and not before.get("finished")
    return looks, before.get("spent", 0.0) if stopped else 0.0


def _next(spec: Spec, claim: str, looks: Mapping[str, int]) -> int | None:
    """The claim's next look, None after the last."""
    fewest = next(known.scales[spec.scale_name].replicates for known in spec.claims if known.id == claim)
    return next((look for look in LOOKS if look > looks.get(claim, 0) and look >= fewest), None)


def _open(
    verdicts: list[ClaimVerdict], wanted: Mapping[str, int], looks: Mapping[str, int], console: Console
) -> dict[str, int]:
    """The claims that go on, with their next look; prints those that can't be decided."""
    by_id, going, lost = {verdict.id: verdict for verdict in verdicts}, {}, []
    for claim, look in wanted.items():
        verdict = by_id[claim]
        lacking = any(part.verdict == "not tested" and part.replicates < looks.get(claim, 0) for part in verdict.parts)
        if claim not in looks or lacking or (verdict.chance is not None and verdict.chance >= LEAST_CHANCE):
            going[claim] = look
        elif verdict.verdict in ("inconclusive", "not tested"):
            lost.append(claim if verdict.chance is None else f"{claim} ({verdict.chance:.1%})")
    if lost:
        text = f"--until-decided: given up, since {LOOKS[-1]} replicates would decide them in less than "
        text += f"{LEAST_CHANCE:.0%} of runs at their estimates and spreads: {', '.join(lost)}"
        console.print(text, soft_wrap=True)
    return going


def _affordable(
    spec: Spec, folders: Folders, wanted: Mapping[str, int], looks: Mapping[str, int], budget: float, console: Console
) -> tuple[dict[str, int], float]:
    """As many of the claims' next looks as fit the budget in seconds, and what they cost together."""
    if not wanted:
        return {}, 0.0
    every = {**looks, **wanted}
    plan = Plan(as_selected(spec, list(every), looks=every), folders, at_most=0.5)
    needed = {claim: needs(spec, claim, {claim: look}) for claim, look in wanted.items()}
    choice = choose(needed, plan.left, max(budget, 1e-6))
    if choice.left_out:
        console.print(f"--until-decided: over the budget: {', '.join(choice.left_out)}", soft_wrap=True)
    return {claim: wanted[claim] for claim in choice.claims}, choice.seconds
