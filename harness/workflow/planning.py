"""`harness plan`: what a scale, or a selection of its claims, would run and cost, in tables for a terminal."""

from dataclasses import dataclass
from functools import cached_property

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.budget import Choice, choose, judged, needs, parse_budget, parse_claims, selected
from harness.calibrate import LONGEST_SECONDS, Cost, costs, run_seconds
from harness.errors import HarnessError
from harness.plan import Run, all_runs
from harness.spec import Spec
from harness.training.device import pick
from harness.workflow.context import Folders
from harness.workflow.live import duration
from harness.workflow.reuse import remaining, stored, trained_as
from harness.workflow.selection import read_selection


@dataclass(frozen=True)
class Plan:
    """A scale with its measured cost, what of it is one training, and what is there already."""

    spec: Spec
    folders: Folders
    at_most: float = LONGEST_SECONDS

    @cached_property
    def owners(self) -> dict[Run, Run]:
        return trained_as(self.spec, self.folders)

    @cached_property
    def there(self) -> dict[Run, bool]:
        return stored(self.spec, self.folders)

    @cached_property
    def costs(self) -> list[Cost]:
        """Each experiment's cost, without the runs that an earlier one trains."""
        return costs(self.spec, self.at_most, [run for run, owner in self.owners.items() if run == owner])

    @cached_property
    def seconds(self) -> dict[Run, float]:
        return run_seconds(self.spec, self.costs)

    @cached_property
    def needs(self) -> dict[str, set[Run]]:
        """What each claim of the scale needs, a shared training under its first name."""
        return {claim: {self.owners[run] for run in needs(self.spec, claim)} for claim in judged(self.spec)}

    def choice(self, budget: float) -> Choice:
        """The claims for a budget in seconds of one core or GPU; what is in the store costs nothing."""
        done = {self.owners[run] for run in self.there}
        return choose(self.needs, {run: 0.0 if run in done else own for run, own in self.seconds.items()}, budget)

    def part(self, claims: list[str]) -> "Plan":
        """The plan of some claims alone, with the same measurements."""
        made = Plan(selected(self.spec, claims), self.folders, self.at_most)
        step = {cost.experiment: cost for cost in self.costs}
        timed = costs(made.spec, self.at_most, [run for run, owner in made.owners.items() if run == owner], step)
        made.__dict__["costs"] = timed
        return made


def chosen(plan: Plan, claims: str, budget: str, console: Console) -> list[str] | None:
    """The claims that --claims or --budget select, or None for the whole scale; says what a budget leaves out.

    A budget that is given again before its run is finished goes on with the claims recorded then: the measured seconds
    vary a little, the choice must not. Raises HarnessError for both options at once, and for what they can't mean.
    """
    if claims and budget:
        raise HarnessError("--claims and --budget: give one of them")
    if claims:
        return parse_claims(claims, plan.spec)
    if not budget:
        return None
    seconds, before = parse_budget(budget), read_selection(plan.folders)
    if before and before.get("budget") == budget and not before.get("finished"):
        found = parse_claims(",".join(before["claims"]), plan.spec)
        console.print(f"--budget {budget}: going on with the claims chosen before: {', '.join(found)}", soft_wrap=True)
        return found
    choice = plan.choice(seconds)
    _show_choice(choice, budget, len(plan.needs), console)
    if not choice.claims:
        cheapest = min(choice.left_out.values(), default=0.0)
        raise HarnessError(
            f"--budget {budget}: too little for any claim; the first takes {duration(cheapest)}"
            if choice.left_out
            else f"--budget {budget}: scale {plan.spec.scale_name} judges no claim"
        )
    return choice.claims


def _show_choice(choice: Choice, budget: str, among: int, console: Console) -> None:
    text = f"--budget {budget}: {len(choice.claims)} of {among} claims, {_time(choice.seconds)} to go"
    if choice.claims:
        text += f": {', '.join(choice.claims)}"
    if choice.left_out:
        rest = sorted(choice.left_out.items(), key=lambda item: item[1])
        text += f". Left out: {', '.join(f'{name} (+{duration(more)})' for name, more in rest)}"
    console.print(text, soft_wrap=True)


def show(plan: Plan, cores: int, console: Console, claims: list[str] | None = None) -> None:
    """Print a plan; with `claims`, that of these claims, and of every claim what it needs."""
    part = plan if claims is None else plan.part(claims)
    console.print(_experiments(part))
    total, device = sum(cost.seconds for cost in part.costs), pick()
    where = (
        f"about {duration(total)} on one {torch.cuda.get_device_name(device)}"
        if device.type == "cuda"
        else f"about {duration(total / cores)} on {cores} cores of this machine's CPU"
    )
    console.print(
        f"{sum(cost.networks for cost in part.costs):,} trainings, {sum(cost.steps for cost in part.costs):,} steps, "
        f"{sum(cost.bytes for cost in part.costs) / 1e6:,.0f} MB; {where} (measured on a few steps of each network)",
        soft_wrap=True,
    )
    for cost in part.costs:
        if cost.samples < cost.batch_size:
            console.print(
                f"{cost.experiment}: timed on {cost.samples} of the {cost.batch_size:,} samples of a step, the rest "
                "by proportion: a rough figure",
                soft_wrap=True,
            )
    console.print(_sharing(part), soft_wrap=True)
    if plan.needs:
        console.print(_claims(plan, claims))


def _time(seconds: float) -> str:
    return f"{duration(seconds)} of {'GPU' if pick().type == 'cuda' else 'core'} time"


def _experiments(plan: Plan) -> Table:
    table = Table(title=f"{escape(plan.spec.paper.title)}, scale {plan.spec.scale_name}", title_justify="left")
    for column in ("experiment", "network", "data set"):
        table.add_column(column)
    unit = "GPU time" if pick().type == "cuda" else "core time"
    for column in ("replicates", "trainings", "steps", unit, "disk"):
        table.add_column(column, justify="right")
    for cost in plan.costs:
        setting = plan.spec.scale.experiments[cost.experiment]
        sizes = (str(setting.replicates), f"{cost.networks:,}", f"{cost.steps:,}", duration(cost.seconds))
        table.add_row(cost.experiment, setting.network, setting.data, *sizes, f"{cost.bytes / 1e6:,.0f} MB")
    return table


def _sharing(plan: Plan) -> str:
    """One line: what sharing saves, and what is there already."""
    runs = all_runs(plan.spec)
    shared = sum(run != owner for run, owner in plan.owners.items())
    left = remaining(runs, plan.owners, plan.there)
    elsewhere = sum(plan.there.values())
    saved = []
    if plan.needs:
        apart = sum(len(needed) for needed in plan.needs.values())
        saved.append(f"claim by claim it would be {apart:,} trainings")
    if shared:
        saved.append(f"{shared:,} serve two experiments here")
    saved.append(f"{len(plan.there):,} are stored already ({elsewhere:,} from another scale, paper or experiment)")
    todo = f"{len(left):,} to train, {_time(sum(plan.seconds[run] for run in left))}"
    return f"Nothing twice: {', '.join(saved)}; {todo}"


def _claims(plan: Plan, chosen: list[str] | None) -> Table:
    """What each claim needs of the whole scale's cost, and how much of that no other claim does."""
    table = Table(title=f"What each claim of scale {plan.spec.scale_name} needs", title_justify="left")
    table.add_column("claim")
    table.add_column("title", max_width=60, no_wrap=True, overflow="ellipsis")
    for column in ("trainings", "time", "share", "for it alone", *(["run"] if chosen is not None else [])):
        table.add_column(column, justify="right")
    total = sum(plan.seconds[run] for run, owner in plan.owners.items() if run == owner) or 1.0
    for claim in plan.spec.claims:
        needed = plan.needs.get(claim.id)
        if needed is None:
            table.add_row(claim.id, escape(claim.title), "", "not judged here", "", "", *([""] if chosen else []))
            continue
        others: set[Run] = set().union(*(runs for name, runs in plan.needs.items() if name != claim.id))
        time, alone = (sum(plan.seconds[run] for run in runs) for runs in (needed, needed - others))
        marks = [] if chosen is None else ["yes" if claim.id in chosen else "no"]
        shares = (_share(time / total), _share(alone / total))
        table.add_row(claim.id, escape(claim.title), f"{len(needed):,}", duration(time), *shares, *marks)
    return table


def _share(part: float) -> str:
    return f"{part:.1%}" if part == 0 or part >= 0.001 else "<0.1%"
