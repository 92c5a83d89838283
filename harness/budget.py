"""Which trainings a claim needs, the smaller scale that has only those, and the most claims for a budget.

A selection of claims is a smaller scale of the same name: its settings keep the rewind iterations, levels, branches and
data orders that the chosen claims' cells read, with everything that these start from. So planning, training, collecting
and judging know nothing of selections. The stages' names and the runs' keys stay the same, and a dense run keeps
every snapshot of the whole scale: going on to more claims, or to the whole, trains no network again.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from harness.errors import HarnessError
from harness.plan import Pair, Run, all_runs, pairs, stages
from harness.sharing import snapshots
from harness.spec import Spec
from harness.spec.claims import Cell, Part, expand_parts
from harness.spec.load import DENSITY_TOLERANCE
from harness.spec.measures import PAIR_MEASURES
from harness.spec.models import Setting, Sweep

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
LEFT_OUT = "not selected: its runs were not asked for"


def judged(spec: Spec) -> list[str]:
    """The claims that the scale judges, in order."""
    return [claim.id for claim in spec.claims if spec.scale_name in claim.scales]


def parse_claims(text: str, spec: Spec) -> list[str]:
    """The claims of "C6,C7", in the paper's order. Raises HarnessError for one that is not there or not judged here."""
    wanted = {name.strip() for name in text.split(",")} - {""}
    known, here = [claim.id for claim in spec.claims], judged(spec)
    unknown = sorted(wanted - set(known))
    if unknown or not wanted:
        what = f"{', '.join(unknown)}: not in {spec.folder / 'claims.yaml'}" if unknown else "names no claim"
        raise HarnessError(f"--claims {text!r}: {what}; there are {', '.join(known)}")
    elsewhere = [name for name in known if name in wanted - set(here)]
    if elsewhere:
        raise HarnessError(
            f"--claims {text!r}: {', '.join(elsewhere)}: scale {spec.scale_name} does not judge it; "
            f"it judges {', '.join(here) or 'no claim'}"
        )
    return [name for name in here if name in wanted]


def parse_budget(text: str) -> float:
    """Seconds of "20h", "90min", "1.5d" or "300s". Raises HarnessError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not (0 < seconds < math.inf):
        raise HarnessError(f"--budget {text!r}: give a time above 0 with its unit, such as 20h, 90min or 2d")
    return seconds


def needs(spec: Spec, claim: str) -> frozenset[Run]:
    """Every run that judging the claim takes, of all replicates: what its cells read, and what that starts from."""
    return frozenset(all_runs(selected(spec, [claim])))


def selected(spec: Spec, claims: Collection[str]) -> Spec:
    """The scale with what these claims need and no more; the other claims are not tested, and say why."""
    wanted: dict[str, set[Run]] = {}
    for run in _read(spec, frozenset(claims)):
        wanted.setdefault(run.experiment, set()).add(run)
    settings = spec.scale.experiments
    kept = {
        name: _smaller(setting, wanted[name]).model_copy(update={"snapshots": snapshots(spec, name)})
        for name, setting in settings.items()
        if name in wanted
    }
    here = set(judged(spec))
    return replace(
        spec,
        scale=spec.scale.model_copy(update={"experiments": kept}),
        claims=[
            claim.model_copy(update={"scales": {}, "not_tested": LEFT_OUT})
            if claim.id in here and claim.id not in claims
            else claim
            for claim in spec.claims
        ],
    )


def _smaller(setting: Setting, wanted: set[Run]) -> Setting:
    """The setting with the runs `wanted` and what they start from."""
    sweeps = [_smaller_sweep(setting, sweep, k, wanted) for sweep in setting.sweeps for k in sweep.k]
    return setting.model_copy(
        update={
            "dense_orders": tuple(k for k in setting.dense_orders if any(_is_copy(run, k) for run in wanted)),
            "sweeps": tuple(sweep for sweep in sweeps if sweep is not None),
        }
    )


def _is_copy(run: Run, k: int) -> bool:
    return run.level == 0 and run.k == k and run.data_order > 0


def _smaller_sweep(setting: Setting, sweep: Sweep, k: int, wanted: set[Run]) -> Sweep | None:
    """The sweep at one k, down to the last level wanted, with the branches and data orders wanted.

    One-shot pruning starts at the first level wanted; a level between two wanted ones stays.
    """
    runs = [run for run in wanted if run.level and run.k == k]
    if not runs:
        return None
    levels = [run.level for run in runs]
    at = {}
    for level, orders in sweep.at.items():
        fewest = {name: field.default for name, field in type(orders).model_fields.items()}
        few = dict(fewest)
        for run in runs:
            if run.level == level:
                few[run.branch] = max(few[run.branch], run.data_order + 1)
        if few != fewest:
            at[level] = orders.model_copy(update=few)
    first = min(levels) if setting.pruning.style == "one_shot" else sweep.first_level
    return sweep.model_copy(update={"k": (k,), "levels": max(levels), "first_level": first, "at": at})


def _read(spec: Spec, claims: frozenset[str]) -> set[Run]:
    """The first replicate's runs that the claims' cells read; the others' are alike."""
    found: set[Run] = set()
    for claim in spec.claims:
        entry = claim.scales.get(spec.scale_name) if claim.id in claims else None
        for part in expand_parts(entry) if entry else []:
            for cell in cells(part):
                found |= _matching(spec, cell, cell.measure or part.measure)
    return found


def cells(part: Part) -> Iterator[Cell]:
    """Every cell that a part reads, with the values of its grid filled in."""
    key, grid = ("density", part.over_density) if part.over is None else ("k", part.over)
    for cell in part.cells:
        yield from [cell] if grid is None else [cell.model_copy(update={key: value}) for value in grid]


def _matching(spec: Spec, cell: Cell, measure: str) -> set[Run]:
    """The runs behind the rows that a cell selects, as `harness.claims.table` selects them."""
    runs, compared = _rows(spec)[cell.experiment]
    if measure in PAIR_MEASURES:
        chosen = [
            (pair.run, pair.run_b)
            for pair in compared
            if cell.comparison in (None, pair.comparison) and _fits(spec, cell, pair.run_b, pair.run.data_order)
        ]
    else:
        chosen = [(run,) * 2 for run in runs if _fits(spec, cell, run, run.data_order)]
    dense = {run for run in runs if run.level == 0 and run.data_order == 0}  # what every run starts from
    return dense.union(*chosen)


def _fits(spec: Spec, cell: Cell, run: Run, data_order: int) -> bool:
    if run.branch != cell.branch or cell.k not in (None, run.k) or cell.data_order not in (None, data_order):
        return False
    if cell.branch == "dense" or cell.density is None:
        return True
    density = spec.scale.experiments[run.experiment].pruning.density(run.level)
    return abs(density / cell.density - 1) <= DENSITY_TOLERANCE


@lru_cache(maxsize=4)
def _rows(spec: Spec) -> dict[str, tuple[list[Run], list[Pair]]]:
    """Each experiment's runs and pairs of its first replicate."""
    rows: dict[str, tuple[list[Run], list[Pair]]] = {name: ([], []) for name in spec.scale.experiments}
    for run in all_runs(spec):
        if run.replicate == 0:
            rows[run.experiment][0].append(run)
    for stage in stages(spec):
        if stage.kind == "stability" and 0 in stage.replicates:
            rows[stage.experiment][1].extend(group[0] for group in pairs(spec, stage))
    return rows


@dataclass(frozen=True)
class Choice:
    """Claims chosen for a budget, what they cost together, and what each of the others would add."""

    claims: list[str]
    seconds: float
    left_out: dict[str, float]


def choose(needed: Mapping[str, Collection[Run]], seconds: Mapping[Run, float], budget: float) -> Choice:
    """The most claims whose runs together take no more than `budget` seconds; of as many, those that cost least.

    `seconds` is what each run still costs: a run that is there already costs 0, and one that several claims need is
    paid once. Choosing claims with shared costs is the set-union knapsack, which is hard in general but small here:
    runs that the same claims need are one item, a paper has some tens of claims, and an integer programme solves it
    exactly. With x a claim chosen (0 or 1) and y a group of runs trained: maximise the claims less half of the budget's
    share that they cost, so that cost only breaks ties, with every chosen claim's groups trained (x <= y) and the cost
    within the budget. The solver is deterministic, so the same costs give the same choice.
    """
    groups = _groups(needed, seconds)
    affordable = [claim for claim in needed if _total(needed[claim], seconds) <= budget]
    chosen = _solve(affordable, groups, budget)
    spent: set[Run] = set().union(*(needed[claim] for claim in chosen))
    rest = {claim: _total(set(needed[claim]) - spent, seconds) for claim in needed if claim not in chosen}
    return Choice([claim for claim in needed if claim in chosen], _total(spent, seconds), rest)


def _groups(needed: Mapping[str, Collection[Run]], seconds: Mapping[Run, float]) -> dict[frozenset[str], float]:
    """Seconds of the runs that the same claims need, by those claims."""
    users: dict[Run, list[str]] = {}
    for claim, runs in needed.items():
        for run in runs:
            users.setdefault(run, []).append(claim)
    groups: dict[frozenset[str], list[float]] = {}
    for run, claims in users.items():
        groups.setdefault(frozenset(claims), []).append(seconds[run])
    return {claims: math.fsum(parts) for claims, parts in groups.items() if math.fsum(parts) > 0}


def _total(runs: Iterable[Run], seconds: Mapping[Run, float]) -> float:
    return math.fsum(seconds[run] for run in runs)


def _solve(claims: list[str], groups: Mapping[frozenset[str], float], budget: float) -> set[str]:
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    used = sorted((sorted(users & set(claims)), cost / budget) for users, cost in groups.items() if users & set(claims))
    if not used:
        return set(claims)
    size = len(claims) + len(used)
    share = np.zeros(size)
    share[len(claims) :] = [cost for _, cost in used]
    trained = []
    for place, (users, _) in enumerate(used, len(claims)):
        for claim in users:
            row = np.zeros(size)
            row[place], row[claims.index(claim)] = 1, -1
            trained.append(row)
    value = share / 2
    value[: len(claims)] = -1
    found = milp(
        value,
        integrality=np.arange(size) < len(claims),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(share, ub=1), LinearConstraint(np.array(trained), lb=0)],
        options={"mip_rel_gap": 0},
    )
    return {claim for claim, chosen in zip(claims, found.x, strict=False) if chosen > 0.5}
