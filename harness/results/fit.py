"""The results that a resumed run can reuse (matching records, unaltered artefacts), and the missing ones it needs.

Results that were pulled, or checked out from another revision, lack networks and the data sets' arrays. Their stages
stay finished as long as no stage that has to run reads a missing artefact.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import data
from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json
from harness.paper import Spec
from harness.plan.kinds import KINDS, data_set_of, files_of, prepares
from harness.plan.runs import Stage, all_runs, data_sets, parents, stacks, stages
from harness.results.environment import computed_with
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from harness.results.store import PULLED, SNAPSHOTS, Store, record_checksum
from harness.results.stored import waits

HASHED_UP_TO = 16 * 2**20  # bytes; larger artefacts are hashed when they are read
BROKEN, AWAY, HERE = "broken", "away", "here"


def forget_broken(spec: Spec, folders: Folders) -> list[str]:
    """Delete the records of stages whose settings changed, whose artefacts are broken, or whose needed artefacts were
    not pulled.

    The workflow then runs these stages again and reuses what the store still has. Returns a line for each reason.
    """
    restore_records(spec, folders)
    planned = {stage.name: stage for stage in stages(spec)}
    lines, away, store = [], set(), Store(folders.runs)
    _forget_data(spec, folders)
    for name in [*map(prepares, data_sets(spec)), *planned]:
        path = folders.stage(name)
        if path.exists():
            reason, status = _look(spec, folders, name, planned.get(name))
            if status == AWAY:
                away.add(name)
            elif reason:
                lines.append(f"{name}: {reason}")
                path.unlink()
        if not path.exists() and name in planned and KINDS[planned[name].kind].trains:
            _forget_damaged(store, own_networks(spec, planned[name]))
    return lines + _bring_back(spec, folders, away)


def _forget_data(spec: Spec, folders: Folders) -> None:
    """Delete broken records of data sets: what needs the arrays makes them again."""
    for record in map(folders.data, data_sets(spec)):
        try:
            if record.exists():
                data.content(record)
        except HarnessError:
            record.unlink()


def _forget_damaged(store: Store, networks: Iterable[str]) -> None:
    """Take networks with broken records or tensors out of the store: a stage that runs would reuse them."""
    for run in networks:
        file = store.tensors_path(run)
        if not store.record_path(run).exists():
            continue
        try:
            record = store.read(run)
            intact = not _altered(file, record["sha256"]) if file.exists() else PULLED in record
        except HarnessError:
            intact = False
        if not intact:
            for name in (run, run.removesuffix(SNAPSHOTS)):
                store.record_path(name).unlink(missing_ok=True)


def restore_records(spec: Spec, folders: Folders) -> None:
    """Copy the records that the store lacks from a finished run's networks.json into the store.

    Copies only records whose checksums match those in the stages' records, and marks each as PULLED. Raises
    HarnessError if one was altered, after copying the others.
    """
    kept = read_json(folders.networks) if folders.networks.exists() else {}
    if not isinstance(kept, dict):
        raise HarnessError(f"{folders.networks}: is not an object of networks. Pull it again, or delete it")
    store, altered = Store(folders.runs), []
    for stage in stages(spec):
        for run, checksum in _outputs(folders, stage).items():
            entry = kept.get(run)
            if run not in own_networks(spec, stage) or not isinstance(entry, dict) or entry.get("sha256") != checksum:
                continue
            if "checksum" in entry and entry["checksum"] != record_checksum(entry):
                altered.append(run)
                continue
            try:
                missing = not store.record_path(run).exists() or store.read(run)["sha256"] != checksum
            except HarnessError:
                missing = not store.tensors_path(run).exists()  # a network that is here is trained again
            if missing:
                store.write_record(run, {**entry, "id": run, PULLED: True})
    if altered:
        raise HarnessError(f"{folders.networks}: {altered[0]}: was altered. Pull the file again, or delete it")


def at_hand(folders: Folders, run: str) -> bool:
    """Whether a run's tensors are stored here and match its record."""
    store = Store(folders.runs)
    file = store.tensors_path(run)
    return file.exists() and file_sha256(file) == store.read(run)["sha256"]


def other_versions(spec: Spec, folders: Folders) -> list[str]:
    """Versions of the computing packages, in the stored networks' records, that differ from those installed."""
    now, versions, store = computed_with(), set(), Store(folders.runs)
    for run in all_runs(spec):
        packages = read_record(store.record_path(run.id)).get("computed_with")
        if isinstance(packages, dict):
            versions |= {f"{name} {packages.get(name)}" for name in now if packages.get(name) != now[name]}
    return sorted(versions)


def graph(spec: Spec, folders: Folders) -> dict[str, list[str]]:
    """Every stage that prepares, trains, compares or packs, with the stages whose records it reads, parents first."""
    inputs: dict[str, list[str]] = {name: [] for name in map(prepares, data_sets(spec))}
    others = waits(spec, folders)
    for stage in stages(spec):
        inputs[stage.name] = [parent.name for parent in parents(spec, stage)]
        inputs[stage.name] += [other.name for other in others.get(stage.name, [])]
        if stage.kind == "dense":
            inputs[stage.name].append(_prepares(spec, stage))
    return inputs


def inputs_fit(folders: Folders, record: Mapping[str, Any]) -> bool:
    """Whether a stage's input records are unchanged since it ran."""
    inputs = record.get("inputs")
    if not isinstance(inputs, dict):
        return False
    paths = {name: folders.stage(name) for name in inputs if isinstance(name, str)}
    return all(path.is_file() and file_sha256(path) == inputs[name] for name, path in paths.items())


def _prepares(spec: Spec, stage: Stage) -> str:
    return prepares(spec.scale.experiments[stage.experiment].data)


def own_networks(spec: Spec, stage: Stage) -> set[str]:
    """The names under which a training stage may store tensors."""
    runs = {run.id for stack in stacks(spec, stage) for run in stack}
    return runs | ({f"{run}{SNAPSHOTS}" for run in runs} if stage.kind == "dense" else set())


def _outputs(folders: Folders, stage: Stage) -> dict[str, str]:
    """The checksums in a training stage's record; {} if it has no readable record."""
    if not KINDS[stage.kind].trains or not folders.stage(stage.name).exists():
        return {}
    try:
        return dict(read_json(folders.stage(stage.name))["outputs"])
    except (HarnessError, KeyError, TypeError, ValueError):
        return {}


def _look(spec: Spec, folders: Folders, name: str, stage: Stage | None) -> tuple[str, str]:
    """Why a stage's record is invalid, or "", and whether its artefacts are BROKEN, AWAY or HERE."""
    try:
        record = read_json(folders.stage(name))
        outputs = dict(record["outputs"])
        if record["digest"] != stage_digest(spec, folders, name):
            return "its settings, its code or the selection changed", BROKEN
    except (HarnessError, KeyError, TypeError, ValueError):
        return "its record is broken", BROKEN
    if stage is None:
        return _look_at_data(folders.data(data_set_of(name)), outputs)
    if not KINDS[stage.kind].trains:
        return _look_at_files(written(folders, stage), outputs)
    own = own_networks(spec, stage)
    if not {run for run in own if not run.endswith(SNAPSHOTS)} <= set(outputs) <= own:
        return "its record is broken", BROKEN
    return _look_at_networks(Store(folders.runs), outputs)


def written(folders: Folders, stage: Stage) -> dict[str, Path]:
    """The files that a stability or tickets stage writes, by their names in its record; {} for one that trains."""
    if stage.kind == "stability":
        return {path.name: path for path in (folders.pairs(stage.name), folders.curves(stage.name))}
    packed = stage.replicates if stage.kind == "tickets" else ()
    names = [f"tickets/{stage.experiment}/r{replicate}.safetensors" for replicate in packed]
    return {name: folders.base / name for name in names}


def _look_at_data(record: Path, outputs: Mapping[str, str]) -> tuple[str, str]:
    if not record.exists():
        return "", AWAY
    if file_sha256(record) != outputs.get("data"):
        return f"{record} is missing or altered", BROKEN
    file = record.with_suffix(".safetensors")
    if not file.exists() or _altered(file, read_json(record)["sha256"]):
        return f"{file} is missing or altered", BROKEN
    return "", HERE


def _look_at_files(files: Mapping[str, Path], outputs: Mapping[str, str]) -> tuple[str, str]:
    if set(outputs) != set(files):
        return "its record is broken", BROKEN
    for name, file in files.items():
        if not file.exists() or _altered(file, outputs[name]):
            return f"{file} is missing or altered", BROKEN
    return "", HERE


def _look_at_networks(store: Store, outputs: Mapping[str, str]) -> tuple[str, str]:
    """As `_look`; takes every broken network out of the store."""
    status, broken = HERE, {}
    for run, checksum in outputs.items():
        file, path = store.tensors_path(run), store.record_path(run)
        try:
            record = store.read(run)
        except HarnessError:
            record = {}
        if record.get("sha256") != checksum:
            broken[run] = path
        elif not file.exists() or _altered(file, checksum):
            if record.get(PULLED):
                status = AWAY
            else:
                broken[run] = file
    for run in broken:
        # a run without a record is not in the store, so it is trained again
        store.record_path(run.removesuffix(SNAPSHOTS)).unlink(missing_ok=True)
    if broken:
        return f"{next(iter(broken.values()))} is missing or altered", BROKEN
    return "", status


def _altered(file: Path, checksum: str) -> bool:
    return file.stat().st_size <= HASHED_UP_TO and file_sha256(file) != checksum


def _bring_back(spec: Spec, folders: Folders, away: set[str]) -> list[str]:
    """Recreate missing data and forget missing networks that a stage to run needs. Returns a line for each reason."""
    if not away:
        return []
    planned = {stage.name: stage for stage in stages(spec)}
    running = _running(spec, folders, away)
    lines = []
    computing = [name for name in running if name in planned and planned[name].kind != "tickets"]
    for name in sorted({_prepares(spec, planned[reader]) for reader in computing} & away - running):
        record = folders.data(data_set_of(name))
        data.prepare(data_set_of(name), record, spec.scale.data)
        lines.append(f"{name}: its arrays are not here and {computing[0]} needs them")
        if file_sha256(record) != read_json(folders.stage(name))["outputs"].get("data"):
            folders.stage(name).unlink()  # the data differ from the run's: all that depends on them runs again
    running = _running(spec, folders, away)
    lost = [name for name in planned if name in running & away]
    networks = sum(len(stack) for name in lost for stack in stacks(spec, planned[name]))
    store = Store(folders.runs)
    for name in lost:
        for run in own_networks(spec, planned[name]):
            # tensors of another training may lie under the same name
            if store.record_path(run).exists() and store.read(run).get(PULLED) and not at_hand(folders, run):
                store.record_path(run).unlink()
        folders.stage(name).unlink(missing_ok=True)
    if lost:
        lines.append(
            f"{', '.join(lost[:3])}{f' and {len(lost) - 3} more' if len(lost) > 3 else ''}: {networks} networks are "
            "not all here, and stages that have to run need them (`harness pull --networks` downloads them)"
        )
    return lines


def _running(spec: Spec, folders: Folders, away: set[str]) -> set[str]:
    """The stages that will run: those without a record or with changed inputs, those that depend on a stage that runs,
    and those whose missing networks such a stage needs."""
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
        needed = {read for name in running & order.keys() for read in _needs(reads, name)} & away - running
        needed = {name for name in needed if name in order}
        if not needed:
            return running
        running |= needed


def _needs(reads: Mapping[str, Iterable[str]], name: str) -> list[str]:
    """The stages whose networks a stage reads: its parents, and the dense stage with the snapshots."""
    return [*reads[name], f"{name.rpartition('/')[0]}/dense"]


def fitting(spec: Spec, folders: Folders, card: Mapping[str, Any]) -> set[str]:
    """All stages whose results match this code, these settings and their inputs: they need not run again."""
    fit: set[str] = set()
    reads = graph(spec, folders)
    for name, before in reads.items():  # parents first
        record = read_record(folders.stage(name))
        if not record or not fit.issuperset(before) or record.get("digest") != stage_digest(spec, folders, name):
            continue
        # a data set's arrays are not shared: they are prepared again where needed
        if inputs_fit(folders, record) and _files_fit(paths_of(folders, name)[1:], _output_checksums(record)):
            fit.add(name)
    if len(fit) < len(reads):
        return fit
    checksums = {folders.base / name: file["sha256"] for name, file in card.get("files", {}).items()}
    for kind in (kind.name for kind in KINDS.values() if kind.whole):
        if kind == "card":
            good = folders.crate.exists()
        else:
            good = card.get("parts", {}).get(kind) == stage_digest(spec, folders, kind)
            good = good and _files_fit(paths_of(folders, kind), checksums)
        if not good:
            break
        fit.add(kind)
    return fit


def read_record(path: Path) -> dict[str, Any]:
    """The record of a stage; {} if it is missing or broken."""
    try:
        record = read_json(path)
    except HarnessError:
        return {}
    return record if isinstance(record, dict) else {}


def paths_of(folders: Folders, name: str) -> list[Path]:
    """The files of a stage that are outputs of the workflow, its record first."""
    return [folders.base / file for file in files_of(name)]


def _output_checksums(record: Mapping[str, Any]) -> dict[str, str]:
    outputs = record.get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def _files_fit(files: Iterable[Path], sums: Mapping[Any, str]) -> bool:
    """Whether all files exist and match `sums`, whose keys are paths or, for a single stage, file names."""
    return all(path.is_file() and file_sha256(path) == sums.get(path, sums.get(path.name)) for path in files)
