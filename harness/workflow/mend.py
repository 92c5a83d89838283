"""What a run can rely on when it goes on: records that fit, artefacts unaltered, and what is needed but not at hand.

Results that were pulled, or checked out of another revision, come without networks and without the data sets' arrays.
Their stages stay finished as long as no stage that has to run reads what is not at hand.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import data
from harness.errors import HarnessError
from harness.files import file_sha256, read_json, write_json
from harness.plan import Stage, parents, stacks, stages
from harness.spec import Spec
from harness.training.store import SNAPSHOTS, Store
from harness.workflow.context import Folders
from harness.workflow.reuse import PULLED, waits
from harness.workflow.rules import stage_digest

HASHED_UP_TO = 16 * 2**20  # bytes; larger artefacts are hashed when they are read
BROKEN, AWAY, HERE = "broken", "away", "here"


def forget_broken(spec: Spec, folders: Folders) -> list[str]:
    """Delete the records of stages whose settings changed, whose artefacts are missing or altered, or whose artefacts
    are not at hand and needed.

    The workflow then runs them again; what they had finished is found in the store. Returns a line for each reason.
    """
    restore_records(spec, folders)
    known = {stage.name: stage for stage in stages(spec)}
    lines, away = [], set()
    for name in [*_prepared(spec), *known]:
        path = folders.stage(name)
        if not path.exists():
            continue
        reason, place = _look(spec, folders, name, known.get(name))
        if place == AWAY:
            away.add(name)
        elif reason:
            lines.append(f"{name}: {reason}")
            path.unlink()
    return lines + _bring_back(spec, folders, away)


def restore_records(spec: Spec, folders: Folders) -> None:
    """Give the store the records of a finished run's networks that it lacks, from networks.json.

    Only records with the checksums that the run's stages name are taken; each is marked PULLED.
    """
    kept = read_json(folders.networks) if folders.networks.exists() else {}
    if not isinstance(kept, dict):
        raise HarnessError(f"{folders.networks}: holds no networks. Pull it again, or delete it")
    store = Store(folders.runs)
    for stage in stages(spec):
        for run, checksum in _outputs(folders, stage).items():
            entry = kept.get(run)
            if run not in _own(spec, stage) or not isinstance(entry, dict) or entry.get("sha256") != checksum:
                continue
            try:
                missing = not store.record_path(run).exists() or store.read(run)["sha256"] != checksum
            except HarnessError:
                continue  # broken: its stage will be run again
            if missing:
                write_json(store.record_path(run), {**entry, "id": run, PULLED: True})


def at_hand(folders: Folders, run: str) -> bool:
    """Whether a run's tensors are here, as its record says."""
    store = Store(folders.runs)
    file = store.tensors_path(run)
    return file.exists() and file_sha256(file) == store.read(run)["sha256"]


def graph(spec: Spec, folders: Folders) -> dict[str, list[str]]:
    """Every stage that prepares, trains, compares or packs, with those whose records it is made from, parents first."""
    found: dict[str, list[str]] = {name: [] for name in _prepared(spec)}
    others = waits(spec, folders)
    for stage in stages(spec):
        found[stage.name] = [parent.name for parent in parents(spec, stage)]
        found[stage.name] += [other.name for other in others.get(stage.name, [])]
        if stage.kind == "dense":
            found[stage.name].append(_prepares(spec, stage))
    return found


def inputs_fit(folders: Folders, record: Mapping[str, Any]) -> bool:
    """Whether the records that a stage was made from are those that lie there."""
    inputs = record.get("inputs")
    if not isinstance(inputs, dict):
        return False
    places = {name: folders.stage(name) for name in inputs if isinstance(name, str)}
    return all(place.is_file() and file_sha256(place) == inputs[name] for name, place in places.items())


def _prepared(spec: Spec) -> list[str]:
    return [f"prepare/{name}" for name in sorted({setting.data for setting in spec.scale.experiments.values()})]


def _prepares(spec: Spec, stage: Stage) -> str:
    return f"prepare/{spec.scale.experiments[stage.experiment].data}"


def _own(spec: Spec, stage: Stage) -> set[str]:
    """The names under which a training stage may keep tensors."""
    runs = {run.id for stack in stacks(spec, stage) for run in stack}
    return runs | ({f"{run}{SNAPSHOTS}" for run in runs} if stage.kind == "dense" else set())


def _outputs(folders: Folders, stage: Stage) -> dict[str, str]:
    """Checksums that a training stage's record names; {} without a record that can be read."""
    if stage.kind in ("stability", "tickets") or not folders.stage(stage.name).exists():
        return {}
    try:
        return dict(read_json(folders.stage(stage.name))["outputs"])
    except (HarnessError, KeyError, TypeError, ValueError):
        return {}


def _look(spec: Spec, folders: Folders, name: str, stage: Stage | None) -> tuple[str, str]:
    """Why a stage's record can't be relied on, or "", and whether what it made is BROKEN, AWAY or HERE."""
    try:
        record = read_json(folders.stage(name))
        outputs = dict(record["outputs"])
        if stage and record["digest"] != stage_digest(spec, folders, stage):
            return "its settings, its code or the selection changed", BROKEN
    except (HarnessError, KeyError, TypeError, ValueError):
        return "its record is broken", BROKEN
    if stage is None:
        return _look_at_data(folders.data(name.removeprefix("prepare/")), outputs)
    if stage.kind in ("stability", "tickets"):
        base = folders.stage(name).parent if stage.kind == "stability" else folders.base
        return _look_at_files(base, _written(spec, folders, stage), outputs)
    own = _own(spec, stage)
    if not {run for run in own if not run.endswith(SNAPSHOTS)} <= set(outputs) <= own:
        return "its record is broken", BROKEN
    return _look_at_networks(Store(folders.runs), outputs)


def _written(spec: Spec, folders: Folders, stage: Stage) -> set[str]:
    """The files that a stability or tickets stage writes, as its record names them."""
    if stage.kind == "stability":
        return {folders.pairs(stage.name).name, folders.curves(stage.name).name}
    return {f"tickets/{stage.experiment}/r{replicate}.safetensors" for replicate in stage.replicates}


def _look_at_data(facts: Path, outputs: Mapping[str, str]) -> tuple[str, str]:
    if not facts.exists():
        return "", AWAY
    if file_sha256(facts) != outputs.get("data"):
        return f"{facts} is missing or altered", BROKEN
    file = facts.with_suffix(".safetensors")
    if not file.exists() or _altered(file, read_json(facts)["sha256"]):
        return f"{file} is missing or altered", BROKEN
    return "", HERE


def _look_at_files(base: Path, written: set[str], outputs: Mapping[str, str]) -> tuple[str, str]:
    if set(outputs) != written:
        return "its record is broken", BROKEN
    for name, checksum in outputs.items():
        file = base / name
        if not file.exists() or _altered(file, checksum):
            return f"{file} is missing or altered", BROKEN
    return "", HERE


def _look_at_networks(store: Store, outputs: Mapping[str, str]) -> tuple[str, str]:
    place = HERE
    for run, checksum in outputs.items():
        file, record = store.tensors_path(run), store.record_path(run)
        try:
            found = store.read(run)
        except HarnessError:
            found = {}
        if found.get("sha256") != checksum:
            broken = record
        elif file.exists() and not _altered(file, checksum):
            continue
        elif found.get(PULLED):
            place = AWAY
            continue
        else:
            broken = file
        # without its record the store does not hold this run any more, and trains it anew
        store.record_path(run.removesuffix(SNAPSHOTS)).unlink(missing_ok=True)
        return f"{broken} is missing or altered", BROKEN
    return "", place


def _altered(file: Path, checksum: str) -> bool:
    return file.stat().st_size <= HASHED_UP_TO and file_sha256(file) != checksum


def _bring_back(spec: Spec, folders: Folders, away: set[str]) -> list[str]:
    """Make again what is not at hand and read by a stage that has to run. Returns a line for each kind."""
    if not away:
        return []
    known = {stage.name: stage for stage in stages(spec)}
    running = _running(spec, folders, away)
    lines = []
    computing = [name for name in running if name in known and known[name].kind != "tickets"]
    for name in sorted({_prepares(spec, known[one]) for one in computing} & away - running):
        facts = folders.data(name.removeprefix("prepare/"))
        data.prepare(name.removeprefix("prepare/"), facts)
        lines.append(f"{name}: its arrays are not here and {computing[0]} needs them")
        if file_sha256(facts) != read_json(folders.stage(name))["outputs"].get("data"):
            folders.stage(name).unlink()  # other bits than those the run was made from: everything follows
    running = _running(spec, folders, away)
    lost = [name for name in known if name in running & away]
    networks = sum(len(stack) for name in lost for stack in stacks(spec, known[name]))
    store = Store(folders.runs)
    for name in lost:
        for run in _own(spec, known[name]):
            # tensors of another training may lie under the same name
            if store.record_path(run).exists() and store.read(run).get(PULLED) and not at_hand(folders, run):
                store.record_path(run).unlink()
        folders.stage(name).unlink(missing_ok=True)
    if lost:
        lines.append(
            f"{', '.join(lost[:3])}{f' and {len(lost) - 3} more' if len(lost) > 3 else ''}: {networks} networks are "
            "not all here, and what has to run needs them (`harness pull --networks` would bring them)"
        )
    return lines


def _running(spec: Spec, folders: Folders, away: set[str]) -> set[str]:
    """The stages that will run: without a record, made from other records, after one that runs, or needed by one and
    not at hand."""
    reads, order = graph(spec, folders), {stage.name: stage for stage in stages(spec)}
    running = {
        name
        for name in reads
        if not folders.stage(name).exists()
        or (name in order and not inputs_fit(folders, read_json(folders.stage(name))))
    }
    while True:
        for name, before in reads.items():  # parents first
            if running.intersection(before):
                running.add(name)
        needed = {one for name in running & order.keys() for one in _needs(reads, name)} & away - running
        needed = {name for name in needed if name in order}
        if not needed:
            return running
        running |= needed


def _needs(reads: Mapping[str, Iterable[str]], name: str) -> list[str]:
    """What a stage reads networks of: its parents, and the dense stage with the snapshots."""
    return [*reads[name], f"{name.rpartition('/')[0]}/dense"]
