"""The folder in which a check works, RESULTS/.check/<paper>/<scale>. The run that is checked is only read.

Before a check runs, this folder gets the run's valid results: those computed with the current code, settings and
package versions. Valid results of an earlier check stay too.

Tensors are large and no file is ever written in place, so they are hard links. Everything else is a copy, because the
workflow engine reads and sets modification times, which linked files would share.
"""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.base.errors import HarnessError
from harness.base.files import write_atomically
from harness.base.paths import CHECK
from harness.paper import Spec
from harness.plan.kinds import WHOLE, data_set_of, kind_of, prepares
from harness.plan.runs import Run, all_runs, data_sets, is_dense, stages
from harness.results.environment import COMPUTING, computed_with
from harness.results.fit import paths_of, read_record
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from harness.results.store import SNAPSHOTS, Store, link
from harness.results.stored import contexts
from harness.stages.tickets import pack_path


def check_results(results: Path) -> Path:
    """The results folder of checks, below that of the runs which they check."""
    return results / CHECK


def lay_out(spec: Spec, run: Folders, workspace: Folders) -> None:
    """Fill the check's folder with the valid results of a run, and remove invalid ones.

    Raises HarnessError if the folder is not writable.
    """
    experiments = contexts(spec, workspace)
    for network in all_runs(spec):
        key = experiments[network.experiment].key(network)
        _take_network(network, key, Store(run.runs), Store(workspace.runs))
    for name in [*map(prepares, data_sets(spec)), *(stage.name for stage in stages(spec))]:
        _take_stage(spec, run, workspace, name)
    _take_summary(run, workspace)


def _take_network(network: Run, key: str, source: Store, target: Store) -> None:
    """Leave `target` with a valid network: its own, else that of `source`, else none."""
    if _is_valid_network(target, network.id, key):
        return
    target.record_path(network.id).unlink(missing_ok=True)
    if not _is_valid_network(source, network.id, key):
        return
    # a network exists once its own record does, so that comes last
    for name in [f"{network.id}{SNAPSHOTS}", network.id] if is_dense(network) else [network.id]:
        _link(source.tensors_path(name), target.tensors_path(name))
        _copy(source.record_path(name), target.record_path(name))


def _is_valid_network(store: Store, network: str, key: str) -> bool:
    """Whether a store has a network with this key, computed with the package versions of this environment."""
    try:
        record = store.read(network) if store.record_path(network).exists() else {}
    except HarnessError:
        return False
    return record.get("key") == key and record.get("computed_with") == computed_with()


def _take_stage(spec: Spec, run: Folders, workspace: Folders, name: str) -> None:
    """Leave the check's folder with a valid record and files of a stage: the run's, else its own, else no record."""
    digest = stage_digest(spec, workspace, name)
    if _is_valid_stage(run, name, digest):
        _take_packs(spec, run, workspace, name)
        if kind_of(name).name == "prepare":
            _take_data_set(run.data(data_set_of(name)), workspace.data(data_set_of(name)))
        for source, target in zip(paths_of(run, name), paths_of(workspace, name), strict=True):
            _copy(source, target)
    elif not _is_valid_stage(workspace, name, digest):
        workspace.stage(name).unlink(missing_ok=True)


def _is_valid_stage(folders: Folders, name: str, digest: str) -> bool:
    """Whether a stage's record has this digest, and the package versions of this environment."""
    record = read_record(folders.stage(name))
    return record.get("digest") == digest and _computing_versions(record) == computed_with()


def _computing_versions(record: Mapping[str, Any]) -> dict[str, Any]:
    """The versions that a stage's record names of the packages that compute its numbers."""
    packages = record.get("packages")
    return {package: packages.get(package) for package in COMPUTING} if isinstance(packages, dict) else {}


def _take_packs(spec: Spec, run: Folders, workspace: Folders, name: str) -> None:
    """Link the packs of a tickets stage. Other stages have none."""
    for stage in stages(spec):
        if stage.name == name and stage.kind == "tickets":
            for replicate in stage.replicates:
                source, target = (pack_path(folders, stage.experiment, replicate) for folders in (run, workspace))
                _link(source, target)


def _take_data_set(source: Path, target: Path) -> None:
    """Copy a data set's record, named by path, and link its arrays."""
    _copy(source, target)
    _link(source.with_suffix(".safetensors"), target.with_suffix(".safetensors"))


def _take_summary(run: Folders, workspace: Folders) -> None:
    """Copy the run's summary: tables, verdicts, page and card. Remove an earlier check's."""
    shutil.rmtree(workspace.report, ignore_errors=True)
    workspace.selection.unlink(missing_ok=True)
    for file in (file for kind in WHOLE for file in paths_of(run, kind)):
        _copy(file, workspace.base / file.relative_to(run.base))
    _copy(run.looks, workspace.looks)
    if run.report.is_dir():
        shutil.copytree(run.report, workspace.report, dirs_exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its modification time; without a source, remove the target."""
    if source.is_file():
        write_atomically(target, partial(shutil.copy2, source))
    else:
        target.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Link a file, if it exists."""
    if source.is_file():
        write_atomically(target, partial(link, source))
