"""What a run's tables and records say about each other: each function gives a line for every disagreement.

Checksums in a card show that files are as they were when the card was written. Whoever alters a file can write a card
to match; then the other files, which tell the same facts, give it away.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.interpolation import BATCH_NORM, barrier
from harness.analysis.table import CURVE_COLUMNS, CURVE_KEYS, tidy
from harness.claims.judge import judge, read_claims
from harness.claims.metrics import metrics
from harness.files import file_sha256
from harness.plan import Pair, Stage, pairs, parents, stacks, stages
from harness.share import packs
from harness.share.given import Given
from harness.share.noise import ROW
from harness.share.tickets import pack_path
from harness.training.store import SNAPSHOTS
from harness.workflow.compare import _row
from harness.workflow.rules import stage_digest

#: columns of the table that are as networks.json has them
TOLD = (
    "status",
    "steps",
    "seconds",
    "test_accuracy",
    "train_accuracy",
    "validation_accuracy",
    "test_loss",
    "train_loss",
)
_CLOSE = 1e-9  # relative: the same arithmetic on another machine


def records(given: Given) -> Iterator[str]:
    """The stages' records against provenance.json, each other, and the checksums of what they wrote."""
    told = {one["stage"]: one for one in given.provenance["stages"]}
    names = [f"prepare/{name}" for name in sorted({one.data for one in given.spec.scale.experiments.values()})]
    planned = {stage.name: stage for stage in stages(given.spec)}
    for name in sorted(set(told) - {*names, *planned}):
        yield f"provenance.json: stage {short(name)}: is not in the plan"
    for name in (*names, *planned):
        place = f"stages/{name}.json"
        record = given.record(name)
        if record != told.get(name):
            yield f"{place}: is not what provenance.json says of it"
        stage = planned.get(name)
        if stage is None:
            continue
        code = ("analysis", "training") if stage.kind == "stability" else ("training",)
        known = given.same_code(*code, "data") and stage.kind != "tickets"
        if known and record.get("digest") != stage_digest(given.spec, given.folders, stage):
            yield f"{place}: its digest is not that of the spec's settings"
        for parent in parents(given.spec, stage):
            path = given.folders.stage(parent.name)  # one that is missing is said by itself
            if path.is_file() and record["inputs"].get(parent.name) != file_sha256(path):
                yield f"{place}: was made from another stages/{parent.name}.json"
        yield from (f"{place}: {line}" for line in _outputs(given, stage, record["outputs"]))


def _outputs(given: Given, stage: Stage, outputs: dict[str, Any]) -> Iterator[str]:
    """A stage's checksums against the files, or networks.json for networks."""
    folders = given.folders
    if stage.kind == "stability":
        written = (folders.pairs(stage.name), folders.curves(stage.name))
        expected = {path.name: file_sha256(path) for path in written if path.is_file()}
    elif stage.kind == "tickets":
        packs = [pack_path(folders, stage.experiment, replicate) for replicate in stage.replicates]
        expected = {path.relative_to(folders.base).as_posix(): file_sha256(path) for path in packs if path.is_file()}
    else:
        names = [run.id for stack in stacks(given.spec, stage) for run in stack]
        names += [f"{name}{SNAPSHOTS}" for name in names] if stage.kind == "dense" else []
        expected = {name: given.networks[name].sha256 for name in names if name in given.networks}
        if stage.kind == "dense":  # snapshots of a run that diverged are stored, and not named
            bad = {f"{name}{SNAPSHOTS}" for name in names if name in expected and given.networks[name].status != "ok"}
            expected = {name: checksum for name, checksum in expected.items() if name not in bad}
    for name in sorted({*expected, *outputs}):
        if expected.get(name) != outputs.get(name):
            yield f"its checksum of {name!r:.120} is not that of the file or of networks.json"


def table(given: Given) -> Iterator[str]:
    """The table against networks.json, the plan and the pairs that the stability stages wrote."""
    expected = tidy(_network_rows(given), _pair_rows(given)).set_index(ROW)
    actual = given.table.set_index(ROW)
    for key in actual.index.difference(expected.index):
        yield f"table.parquet: {_named(key)}: is not in the plan"
    for key in expected.index.difference(actual.index):
        yield f"table.parquet: {_named(key)}: is missing"
    common = expected.index.intersection(actual.index)
    actual, expected = actual.loc[common], expected.loc[common]
    for column in expected:
        same = (actual[column] == expected[column]) | (actual[column].isna() & expected[column].isna())
        for place in np.flatnonzero(~same.to_numpy(dtype=bool)).tolist():
            key, one, other = common[place], actual[column].iloc[place], expected[column].iloc[place]
            yield f"table.parquet: {_named(key)}: {column}: {short(one)}, the other files say {short(other)}"


def _network_rows(given: Given) -> Iterator[dict[str, Any]]:
    """The table's rows of networks as the plan and networks.json have them."""
    for run in given.runs():
        network = given.networks.get(run.id)
        if network is not None:
            yield {
                **vars(run),
                "id": run.id,
                "density": packs.density(given, run) if network.trained else None,
                **{name: getattr(network, name) for name in TOLD},
            }


def _pair_rows(given: Given) -> Iterator[pd.DataFrame]:
    """The table's rows of pairs: described by the plan, measured by the stability stages."""
    for stage in compared(given):
        written = {
            (one["run"], one["run_b"], one["comparison"]): one
            for one in given.read_pairs(stage.name).to_dict("records")
        }
        planned = [(pair, (pair.run.id, pair.run_b.id, pair.comparison)) for pair in planned_pairs(given, stage)]
        yield pd.DataFrame(
            [{**written[key], **_row(pair, status(given, pair))} for pair, key in planned if key in written]
        )


def compared(given: Given) -> list[Stage]:
    """The stages that compare networks."""
    return [stage for stage in stages(given.spec) if stage.kind == "stability"]


def planned_pairs(given: Given, stage: Stage) -> list[Pair]:
    return [pair for group in pairs(given.spec, stage) for pair in group]


def status(given: Given, pair: Pair) -> str:
    """The first of two networks' statuses that is not ok."""
    found = [given.networks[run.id].status for run in (pair.run, pair.run_b) if run.id in given.networks]
    return next((one for one in found if one != "ok"), "ok")


def lines(given: Given) -> Iterator[str]:
    """The curves against the stages' own, and each instability against its curve."""
    parts = [given.read_curves(stage.name) for stage in compared(given)]
    whole = pd.concat([part for part in parts if len(part)] or parts).sort_values(CURVE_KEYS, ignore_index=True)
    if not given.curves[list(CURVE_COLUMNS)].equals(whole[list(CURVE_COLUMNS)]):
        yield "curves.parquet: is not what the stages' curves make together"
    errors = {key: part["error"].to_numpy() for key, part in given.curves.groupby(CURVE_KEYS[:4])}
    told = {
        (one["run"], one["run_b"]): one for one in given.table.to_dict("records") if one["comparison"] == "data_order"
    }
    for stage in compared(given):
        for pair in planned_pairs(given, stage):
            key = (pair.run.id, pair.run_b.id)
            if not pair.interpolated or status(given, pair) != "ok" or key not in told:
                continue
            for way, suffix in zip(BATCH_NORM, ("", "_reestimated"), strict=True):
                for split in ("train", "test"):
                    found = errors.get((*key, way, split))
                    name = f"instability_{split}{suffix}"
                    if found is None or not np.isclose(barrier(found), told[key][name], rtol=_CLOSE, atol=_CLOSE):
                        yield f"table.parquet: {' and '.join(key)}: {name} is not its curve's"


def claims(given: Given) -> Iterator[str]:
    """claims.json against the verdicts that the table gives, judged again."""
    bands = {name: one.calibration for name, one in given.spec.scale.experiments.items() if one.calibration}
    written = read_claims(given.folders.claims)
    told = {str(claim.get("id")): claim for claim in written}
    yield from (f"claims.json: {name!r:.60}: stands there twice" for name in twice(one.get("id") for one in written))
    made = {claim["id"]: claim for claim in judge(given.spec.claims, given.spec.scale_name, given.table, bands)}
    for name in sorted({*told, *made}):
        if name not in told or name not in made:
            yield f"claims.json: {name!r:.60}: is {'missing' if name in made else 'not in the spec'}"
            continue
        for field in sorted({*told[name], *made[name]}):
            one, other = told[name].get(field), made[name].get(field)
            if not alike(one, other):
                yield f"claims.json: {name}: {field}: {short(one)}, judged again {short(other)}"


def numbers(given: Given) -> Iterator[str]:
    """metrics.json against the claims."""
    made, told = metrics(read_claims(given.folders.claims)), given.read_object("metrics")
    for group in sorted({*made, *told}):
        one, other = told.get(group), made.get(group)
        if not isinstance(one, dict) or not isinstance(other, dict):
            yield f"metrics.json: {group!r:.60}: {short(one)}, the claims give {short(other)}"
            continue
        for name in sorted({*one, *other}):
            if not alike(one.get(name), other.get(name)):
                yield f"metrics.json: {name!r:.60}: {short(one.get(name))}, the claims give {short(other.get(name))}"


def twice(names: Iterable[object]) -> list[str]:
    """The names that are there more than once."""
    return sorted(name for name, number in Counter(map(str, names)).items() if number > 1)


def alike(one: object, other: object) -> bool:
    """Whether two JSON values are equal, numbers but for the last digits of another machine's arithmetic."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float | int):
        return bool(np.isclose(one, other, rtol=_CLOSE, atol=0))
    return type(one) is type(other) and one == other


def _named(key: Iterable[str]) -> str:
    row, run, other, comparison = key
    return f"{run}" if row == "network" else f"{run} and {other} ({comparison})"


def short(value: object) -> str:
    """A value as it is shown in a difference."""
    return f"{value.item() if isinstance(value, np.generic) else value!r:.100}"
