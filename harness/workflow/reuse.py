"""Nothing twice: which runs of a scale are one training, which stage waits for another's, and what is there already."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

from harness.plan import Run, Stage, all_runs, dense_run, stacks, stages
from harness.sharing import drawing_alike
from harness.spec import Spec
from harness.training.store import SNAPSHOTS, Store
from harness.workflow.context import Context, Folders

PULLED = "pulled"  # set in a run's record when its tensors stayed where it was trained


def contexts(spec: Spec, folders: Folders) -> dict[str, Context]:
    """A context for each experiment of the scale."""
    return {name: Context(spec, folders, name) for name in spec.scale.experiments}


def sharing_draws(spec: Spec) -> set[str]:
    """The experiments of the scale that may share runs with another of it."""
    names = spec.scale.experiments
    return {name for name in names if any(other in names for other in drawing_alike(spec, name)[1:])}


def trained_as(spec: Spec, folders: Folders) -> dict[Run, Run]:
    """Each run of the scale with the first one, in the plan's order, that has the same key: itself, or its twin."""
    found, share = contexts(spec, folders), sharing_draws(spec)
    first: dict[str, Run] = {}
    return {
        run: first.setdefault(found[run.experiment].key(run), run) if run.experiment in share else run
        for run in all_runs(spec)
    }


@lru_cache(maxsize=4)
def waits(spec: Spec, folders: Folders) -> dict[str, list[Stage]]:
    """For each stage that shares runs with stages of earlier experiments, these: it takes the runs from them."""
    if not sharing_draws(spec):
        return {}
    owners = trained_as(spec, folders)
    home: dict[Run, Stage] = {}
    found: dict[str, list[Stage]] = {}
    for stage in stages(spec):
        for run in (run for stack in stacks(spec, stage) for run in stack):
            home[run] = stage
            if owners[run] != run:
                found.setdefault(stage.name, []).append(home[owners[run]])
    return {name: list(dict.fromkeys(before)) for name, before in found.items()}


def stored(spec: Spec, folders: Folders) -> dict[Run, bool]:
    """The runs of the scale that are finished, and whether each lies with another scale or experiment.

    Reads records alone: a file that is altered is found when its run is taken. A run counts when what it started from
    counts too, with the checksums in its record. One whose tensors stayed where it was trained counts: it is trained
    again only if new work starts from it.
    """
    if not any(Folders(base).runs.exists() for base in (folders.base, *folders.others)):
        return {}
    found = contexts(spec, folders)
    sums: dict[str, str] = {}
    there: dict[Run, bool] = {}
    for run in all_runs(spec):
        context = found[run.experiment]
        key = context.key(run)
        for store, name, record in chain(
            context.store.candidates(run.id, key), _left_elsewhere(context.store, run.id, key)
        ):
            if not _lineage(run, record, sums) or not _kept(context, run, record):
                continue
            sums[run.id] = record["sha256"]
            if run == dense_run(run.experiment, run.replicate) and record["status"] == "ok":
                parts = store.read(f"{name}{SNAPSHOTS}").get("parts", {})
                sums |= {f"{run.id}{SNAPSHOTS}/{part}": checksum for part, checksum in parts.items()}
            there[run] = store is not context.store
            break
    return there


def _left_elsewhere(store: Store, run: str, key: str) -> Iterator[tuple[Store, str, dict[str, Any]]]:
    """The run's record, if it came without tensors."""
    if store.record_path(run).exists() and not store.tensors_path(run).exists():
        record = store.read(run)
        if record.get(PULLED) and record.get("key") == key:
            yield store, run, record


def _kept(context: Context, run: Run, record: dict[str, object]) -> bool:
    """Whether a dense run has the snapshots asked for."""
    if run != dense_run(run.experiment, run.replicate):
        return True
    steps = record.get("snapshots")
    return isinstance(steps, list) and set(context.setting.snapshot_steps()) <= set(steps)


def _lineage(run: Run, record: dict[str, object], sums: dict[str, str]) -> bool:
    inputs = record.get("inputs")
    if not isinstance(inputs, dict):
        return False
    return all(sums.get(f"{run.experiment}/{place}") == checksum for place, checksum in inputs.items())


def remaining(runs: Iterable[Run], owners: dict[Run, Run], there: dict[Run, bool]) -> list[Run]:
    """The runs still to be trained, each once."""
    return list(dict.fromkeys(owners[run] for run in runs if run not in there))
