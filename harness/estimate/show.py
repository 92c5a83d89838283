"""`harness plan`: prints what a scale, or some of its claims, would run and cost."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.base.errors import HarnessError
from harness.base.variables import variables
from harness.base.words import disk, duration
from harness.claims.power import power
from harness.data import source_of
from harness.estimate.budget import Choice
from harness.estimate.cards import CARDS, DEFAULT
from harness.estimate.costs import Plan
from harness.paper import Spec
from harness.plan.needs import parse_budget, parse_claims
from harness.plan.runs import Run, stages
from harness.results.folders import Folders
from harness.results.selection import as_selected, read_selection
from harness.training.device import asks_for_gpu, choose, pick

__all__ = ["Plan", "as_json", "chosen", "list_stages", "plan_of", "show"]


def chosen(plan: Plan, claims: str, budget: str, console: Console) -> list[str] | None:
    """The claims that --claims or --budget select, or None for the whole scale; prints what a budget leaves out.

    If the same budget is repeated before its run has finished, the recorded claims stay: the measured seconds vary a
    little, but the choice must not. Raises HarnessError for both options together, and for invalid values.
    """
    if claims and budget:
        raise HarnessError("--claims and --budget: give only one of them")
    if claims:
        return parse_claims(claims, plan.spec)
    if not budget:
        return None
    seconds, before = parse_budget(budget), read_selection(plan.folders)
    if before and before.get("budget") == budget and not before.get("finished"):
        recorded = parse_claims(",".join(before["claims"]), plan.spec)
        console.print(f"--budget {budget}: resuming the claims chosen before: {', '.join(recorded)}", soft_wrap=True)
        return recorded
    choice = plan.choice(seconds)
    _show_choice(choice, budget, plan, console)
    if not choice.claims:
        cheapest = min(choice.left_out.values(), default=0.0)
        raise HarnessError(
            f"--budget {budget}: too little for any claim; the first takes {duration(cheapest)}"
            if choice.left_out
            else f"--budget {budget}: scale {plan.spec.scale_name} judges no claim"
        )
    return choice.claims


def _show_choice(choice: Choice, budget: str, plan: Plan, console: Console) -> None:
    text = f"--budget {budget}: {len(choice.claims)} of {len(plan.needs)} claims, {_time(choice.seconds, plan)} to go"
    if choice.claims:
        text += f": {', '.join(choice.claims)}"
    if choice.left_out:
        others = sorted(choice.left_out.items(), key=lambda item: item[1])
        text += f". Left out: {', '.join(f'{name} (+{duration(more)})' for name, more in others)}"
    console.print(text, soft_wrap=True)
    cores = "core time: hours of one core, so more cores end sooner"
    unit = "GPU time: hours of one such GPU" if _unit(plan) == "GPU" else cores
    console.print(
        "The budget is for training and comparing the networks of these claims, in the fewest replicates that they "
        f"ask for; not for getting data sets ready. It counts {unit}.",
        soft_wrap=True,
    )


def show(plan: Plan, cores: int, console: Console, claims: list[str] | None = None) -> None:
    """Print a plan; with `claims`, only the plan of these claims, and measure only what they need."""
    part = plan if claims is None else plan.part(claims)
    console.print(_experiments(part))
    console.print(_total(part, cores), soft_wrap=True)
    rough = [cost.experiment for cost in part.costs if cost.timing.samples < cost.batch_size]
    if rough:
        console.print(
            "Rough estimates, scaled up from a few samples of a step, for "
            f"{', '.join(rough)}. A --budget that includes these can be far off.",
            soft_wrap=True,
        )
    console.print(_sharing(part), soft_wrap=True)
    for line in _data(part):
        console.print(line, soft_wrap=True)
    if part.needs:
        console.print(_claims(part, every=claims is None))


def plan_of(
    spec: Spec, folders: Folders, console: Console, claims: str, budget: str, card: str = ""
) -> tuple[Plan, list[str] | None]:
    """The plan of a scale, and the claims that the options choose of it, None for all. Raises HarnessError.

    `card` is a name of CARDS. For a whole scale whose rules ask for GPUs it is DEFAULT where there is none; what claims
    or a budget choose is timed on this machine, which may well be enough for them.
    """
    choose(spec)
    if card and card not in CARDS:
        raise HarnessError(f"--card {card!r}: choose one of {', '.join(CARDS)}")
    whole = not claims and not budget
    if whole and not card and variables().device == "auto" and pick().type == "cpu" and asks_for_gpu(spec):
        card = DEFAULT
    plan = Plan(spec, folders, card=CARDS.get(card))
    return plan, chosen(plan, claims, budget, console)


def list_stages(plan: Plan, selection: list[str] | None) -> list[str]:
    """The names of the stages that the chosen claims, or all, need."""
    return [stage.name for stage in stages(as_selected(plan.spec, selection))]


def as_json(plan: Plan, cores: int, selection: list[str] | None, with_stages: bool) -> dict[str, Any]:
    """A plan for other programs: seconds of one core or GPU for each experiment and claim, and the wall clock."""
    part = plan if selection is None else plan.part(selection)
    fields = ("experiment", "networks", "steps", "seconds", "comparing", "bytes")
    jobs = part.jobs(cores)
    return {
        "paper": plan.spec.paper.id,
        "scale": plan.spec.scale_name,
        "unit": _unit(part),
        "experiments": [{name: getattr(cost, name) for name in fields} for cost in part.costs],
        "wall_clock_seconds": jobs.wall_clock(jobs.widths(cores), cores) if _unit(part) == "core" else None,
        "cores": cores,
        "claims": {
            claim: {"networks": len(part.prices.trained(needed)), "seconds": part.prices.total(needed)}
            for claim, needed in part.needs.items()
        },
        **({"stages": list_stages(plan, selection)} if with_stages else {}),
    }


def _unit(plan: Plan) -> str:
    return "GPU" if plan.card or pick().type == "cuda" else "core"


def _time(seconds: float, plan: Plan) -> str:
    return f"{duration(seconds)} of {_unit(plan)} time"


def _experiments(plan: Plan) -> Table:
    table = Table(title=f"{escape(plan.spec.paper.title)}, scale {plan.spec.scale_name}", title_justify="left")
    for column in ("experiment", "network", "data set"):
        table.add_column(column)
    unit = _unit(plan)
    for column in ("replicates", "trainings", "steps", f"training ({unit} time)", "comparing", "disk"):
        table.add_column(column, justify="right")
    for cost in plan.costs:
        setting = plan.spec.scale.experiments[cost.experiment]
        sizes = (str(setting.replicates), f"{cost.networks:,}", f"{cost.steps:,}")
        times = (duration(cost.seconds), duration(cost.comparing) if cost.comparing else "-")
        table.add_row(cost.experiment, setting.network, setting.data, *sizes, *times, disk(cost.bytes))
    return table


def _total(plan: Plan, cores: int) -> str:
    """One line: the totals of all experiments."""

    def of(field: str) -> float:
        return sum(getattr(cost, field) for cost in plan.costs)

    counts = f"{of('networks'):,} trainings, {of('steps'):,} steps, {disk(of('bytes'))}"
    training, comparing = of("seconds"), of("comparing")
    total, device = training + comparing, pick()
    how = "measured on a few steps of each network"
    if plan.card:
        where = f"{duration(total)} on one {plan.card.title}"
        how = f"by its published rates, as if every operation went to memory; {_on_others(plan)}"
    elif device.type == "cuda":
        where = f"about {duration(total)} on one {torch.cuda.get_device_name(device)}"
    else:
        where = _on_cores(plan, cores)
    parts = f"{_time(training, plan)} training, {duration(comparing)} comparing"
    return f"{counts}; {where}: {parts} ({how})"


def _on_others(plan: Plan) -> str:
    """The total on the other cards."""
    others = [replace(plan, card=card) for card in CARDS.values() if card != plan.card]
    totals = {
        other.card.title: sum(cost.seconds + cost.comparing for cost in other.costs) for other in others if other.card
    }
    return "; ".join(f"{title} {duration(seconds)}" for title, seconds in totals.items())


def _on_cores(plan: Plan, cores: int) -> str:
    """The wall clock on some cores of this machine's kind, and how much faster that is than one core."""
    jobs, one = plan.jobs(cores), plan.jobs(1)
    seconds = jobs.wall_clock(jobs.widths(cores), cores)
    faster = one.wall_clock(one.narrow, 1) / seconds
    compared = f", {faster:.1f} times as fast as one core" if cores > 1 else ""
    known = f" ({jobs.recorded} finished jobs count as long as they took)" if jobs.recorded else ""
    return f"about {duration(seconds)} on {cores} core{'s' * (cores > 1)} like those of this machine{compared}{known}"


def _sharing(plan: Plan) -> str:
    """One line: what claims and figures need, what sharing saves, and what is stored already."""
    prices, parts = plan.prices, []
    trainings = {run for run, owner in plan.owners.items() if run == owner}
    if plan.needs:
        trained = prices.trained(plan.for_claims)
        apart = sum(len(prices.trained(needed)) for needed in plan.needs.values())
        parts.append(f"claims alone: {len(trained):,} trainings ({apart:,} if each claim were run by itself)")
        more = trainings - trained
        if more:
            seconds = sum(prices.training[run] for run in more)
            parts.append(
                f"{len(more):,} more for figures and for replicates that no claim asks for, {_time(seconds, plan)}"
            )
    shared = len(plan.owners) - len(trainings)
    if shared:
        parts.append(f"{shared:,} are shared by two experiments")
    elsewhere, todo = sum(plan.in_store.values()), plan.todo()
    parts.append(f"{len(plan.in_store):,} are stored already ({elsewhere:,} from another scale, paper or experiment)")
    parts.append(f"{len(todo):,} to train, {_time(sum(prices.training[run] for run in todo), plan)}")
    return f"Reuse: {'; '.join(parts)}"


def _data(plan: Plan) -> Iterator[str]:
    """A line for each data set: the disk space it needs; archives that two data sets share count once."""
    named: dict[str, str] = {}
    for name in dict.fromkeys(setting.data for setting in plan.spec.scale.experiments.values()):
        source = source_of(name, plan.spec.scale.data)
        new = [archive for archive in source.archives if archive.path not in named]
        named |= {archive.path: name for archive in new}
        if new:
            archives = f"{disk(sum(archive.size for archive in new))} of archives and "
        elif source.archives:
            archives = f"the archives of {named[source.archives[0].path]} and "
        else:
            samples = f"{source.classes} classes, {source.training_samples:,} + {source.test_samples:,}"
            archives = "generated, " if source.generated else f"pictures of one's own ({samples}), "
        yield f"Data set {name}: {archives}{disk(source.stored_bytes)} once converted"


def _claims(plan: Plan, every: bool) -> Table:
    """What each claim needs, in all and for itself alone, and its power; `every`: also the claims not judged here."""
    table = Table(title=f"What each claim of scale {plan.spec.scale_name} needs", title_justify="left")
    table.add_column("claim")
    table.add_column("title", max_width=60, no_wrap=True, overflow="ellipsis")
    for column in ("trainings", "time", "share", "for it alone", "power"):
        table.add_column(column, justify="right")
    replicates = {name: setting.replicates for name, setting in plan.spec.scale.experiments.items()}
    total = plan.prices.total(plan.owners.keys()) or 1.0
    for claim in plan.spec.claims:
        needed = plan.needs.get(claim.id)
        if needed is not None:
            others: set[Run] = set().union(*(runs for name, runs in plan.needs.items() if name != claim.id))
            time, trainings = plan.prices.total(needed), len(plan.prices.trained(needed))
            shares = (_share(time / total), _share(plan.prices.alone(needed, others) / total))
            decides = str(power(claim.scales[plan.spec.scale_name], replicates, plan.spec.published))
            table.add_row(claim.id, escape(claim.title), f"{trainings:,}", duration(time), *shares, decides)
        elif every:
            table.add_row(claim.id, escape(claim.title), "", "not judged here", "", "", "")
    table.caption = (
        "Power: how often the claim's direction would be supported if every value and spread were as published, with "
        "this scale's replicates; '2 of 3 parts' if only so many parts have published numbers."
    )
    table.caption_justify = "left"
    return table


def _share(part: float) -> str:
    return f"{part:.1%}" if part == 0 or part >= 0.001 else "<0.1%"
