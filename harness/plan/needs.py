"""The trainings that claims need, the reduced scale that has only these, and the options that select claims.

A selection of claims is a reduced scale of the same name. It keeps the rewind iterations, levels, branches and data
orders that the claims' cells read, the runs that these start from, and as few replicates as the claims need. So
planning, training, collecting and judging know nothing of selections. The stages' names and the runs' keys stay the
same, and a dense run keeps every snapshot of the whole scale: adding claims later trains no network again.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.base.errors import HarnessError
from harness.paper import Spec
from harness.paper.claims import LEFT_OUT, LOOKS, Cell, Part, expand_parts
from harness.paper.models import Setting, Sweep
from harness.plan.runs import Run, all_runs, owner, pairs, parent, stages
from harness.plan.twins import snapshots

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def judged(spec: Spec) -> list[str]:
    """The claims that the scale judges, in order."""
    return [claim.id for claim in spec.claims if spec.scale_name in claim.scales]


def parse_claims(text: str, spec: Spec) -> list[str]:
    """The claims of "C6,C7", in the paper's order. Raises HarnessError if one is unknown or not judged at the scale."""
    wanted = {name.strip() for name in text.split(",")} - {""}
    names, in_scale = [claim.id for claim in spec.claims], judged(spec)
    unknown = sorted(wanted - set(names))
    if unknown or not wanted:
        fault = f"{', '.join(unknown)}: not in {spec.folder / 'claims.yaml'}" if unknown else "names no claim"
        raise HarnessError(f"--claims {text!r}: {fault}; there are {', '.join(names)}")
    elsewhere = [name for name in names if name in wanted - set(in_scale)]
    if elsewhere:
        raise HarnessError(
            f"--claims {text!r}: {', '.join(elsewhere)}: scale {spec.scale_name} does not judge it; "
            f"it judges {', '.join(in_scale) or 'no claim'}"
        )
    return [name for name in in_scale if name in wanted]


def parse_budget(text: str) -> float:
    """Seconds of "20h", "90min", "1.5d" or "300s". Raises HarnessError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", text.strip())
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not (0 < seconds < math.inf):
        raise HarnessError(f"--budget {text!r}: give a time above 0 with its unit, such as 20h, 90min or 2d")
    return seconds


def needs(spec: Spec, claim: str, looks: Mapping[str, int] = MappingProxyType({})) -> frozenset[Run]:
    """Every run that the claim needs in its replicates: the runs that its cells read, and their ancestors."""
    return frozenset(all_runs(selected(spec, [claim], looks=looks)))


def selected(
    spec: Spec,
    claims: Collection[str],
    every_replicate: bool = False,
    looks: Mapping[str, int] = MappingProxyType({}),
) -> Spec:
    """The scale with only what these claims need. The other claims are not tested, with a reason.

    An experiment has as many replicates as its most demanding claim needs, or with `every_replicate` as many as in the
    whole scale. In a planned design a claim needs those of its look in `looks`, also if the scale has fewer; a job has
    at most those of the first look, so that the next one leaves its stages as they are where jobs hold 5 or 1.
    """
    wanted: dict[str, set[Run]] = {}
    for run in _read(spec, frozenset(claims)):
        wanted.setdefault(run.experiment, set()).add(run)
    replicates = _replicates(spec, claims, looks)
    kept = {
        name: _smaller(setting, wanted[name]).model_copy(
            update={
                "snapshots": snapshots(spec, name),
                "replicates": setting.replicates if every_replicate else replicates[name],
                "replicates_per_job": min(
                    setting.replicates_per_job, LOOKS[0] if looks else setting.replicates_per_job
                ),
            }
        )
        for name, setting in spec.scale.experiments.items()
        if name in wanted
    }
    in_scale = set(judged(spec))
    whole = {name: setting.replicates for name, setting in spec.scale.experiments.items() if name in kept}
    return replace(
        spec,
        scale=spec.scale.model_copy(update={"experiments": kept}),
        looks=LOOKS if looks else (),
        whole_replicates={name: count for name, count in whole.items() if kept[name].replicates < count and not looks},
        claims=[
            claim.model_copy(update={"scales": {}, "not_tested": LEFT_OUT})
            if claim.id in in_scale and claim.id not in claims
            else claim
            for claim in spec.claims
        ],
    )


def _replicates(spec: Spec, claims: Collection[str], looks: Mapping[str, int]) -> dict[str, int]:
    """For each experiment that these claims read, the most replicates that one of them needs."""
    replicates: dict[str, int] = {}
    for claim in spec.claims:
        entry = claim.scales.get(spec.scale_name) if claim.id in claims else None
        for part in expand_parts(entry) if entry else []:
            for cell in part.cells:
                there = spec.scale.experiments[cell.experiment].replicates
                own = looks.get(claim.id) or min(there, entry.replicates if entry else 0)
                replicates[cell.experiment] = max(replicates.get(cell.experiment, 0), own)
    return replicates


def _smaller(setting: Setting, wanted: set[Run]) -> Setting:
    """The setting reduced to the runs `wanted` and their ancestors."""
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

    One-shot pruning starts at the first level wanted; the levels between two wanted levels stay.
    """
    runs = [run for run in wanted if run.level and run.k == k]
    if not runs:
        return None
    levels = [run.level for run in runs]
    at = {}
    for level, orders in sweep.at.items():
        few: dict[str, int] = {}
        for run in runs:
            if run.level == level:
                few[run.branch] = max(few.get(run.branch, 0), run.data_order + 1)
        if few not in ({}, {"imp": 1}):
            at[level] = type(orders)(few)
    first = min(levels) if setting.pruning.style == "one_shot" else sweep.first_level
    return sweep.model_copy(update={"k": (k,), "levels": max(levels), "first_level": first, "at": at})


def _read(spec: Spec, claims: frozenset[str]) -> set[Run]:
    """The runs of the first replicate that the claims' cells read; other replicates have the same runs."""
    runs: set[Run] = set()
    for claim in spec.claims:
        entry = claim.scales.get(spec.scale_name) if claim.id in claims else None
        for part in expand_parts(entry) if entry else []:
            for cell in cells(part):
                runs |= _matching(spec, cell, cell.measure or part.measure)
    return runs


def cells(part: Part) -> Iterator[Cell]:
    """Every cell that a part reads, with the values of its grid filled in."""
    key, grid = ("density", part.over_density) if part.over is None else ("k", part.over)
    for cell in part.cells:
        yield from [cell] if grid is None else [cell.model_copy(update={key: value}) for value in grid]


def _matching(spec: Spec, cell: Cell, measure: str) -> set[Run]:
    """The runs of the rows that a cell selects, those whose masks they have, and the dense runs, the start of all."""
    rows = _rows(spec)[cell.experiment]
    selected = np.flatnonzero(cell.rows(measure, rows.columns))
    dense = {run for runs in rows.runs for run in runs if run.level == 0 and run.data_order == 0}
    runs = dense.union(*(rows.runs[row] for row in selected))
    style = spec.scale.experiments[cell.experiment].pruning.style
    return runs | {parent(run, style) for run in runs if owner(run.branch) not in ("imp", run.branch)}


class _Rows(NamedTuple):
    """The rows of an experiment's future table: the columns by which cells select, and the runs of each row."""

    columns: dict[str, NDArray[Any]]
    runs: list[tuple[Run, ...]]


@lru_cache(maxsize=4)
def _rows(spec: Spec) -> dict[str, _Rows]:
    """The rows of each experiment's first replicate."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in spec.scale.experiments}
    for run in all_runs(spec):
        if run.replicate == 0:
            rows[run.experiment].append(("network", "", run.data_order, run, (run,)))
    for stage in stages(spec):
        if stage.kind == "stability" and 0 in stage.replicates:
            rows[stage.experiment] += [
                ("pair", group[0].comparison, group[0].run.data_order, group[0].run_b, (group[0].run, group[0].run_b))
                for group in pairs(spec, stage)
            ]
    return {name: _columns(spec.scale.experiments[name], own) for name, own in rows.items()}


def _columns(setting: Setting, rows: list[tuple[Any, ...]]) -> _Rows:
    """Columns of rows (row, comparison, data order, the run that gives branch, k and level, runs)."""
    columns = {
        "row": [row[0] for row in rows],
        "comparison": [row[1] for row in rows],
        "data_order": [row[2] for row in rows],
        "branch": [row[3].branch for row in rows],
        "k": [row[3].k for row in rows],
        "level": [row[3].level for row in rows],
        "density": [setting.pruning.density(row[3].level) for row in rows],
    }
    return _Rows({name: np.array(values) for name, values in columns.items()}, [row[4] for row in rows])
