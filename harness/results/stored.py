"""Reuse: runs that share a training, stages that wait for another stage's runs, and runs that are stored."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

from harness.paper import Spec
from harness.plan.runs import Run, Stage, all_runs, is_dense, stacks, stages
from harness.plan.twins import drawing_alike
from harness.results.context import DATA, Context
from harness.results.folders import Folders
from harness.results.store import PULLED, SNAPSHOTS, Store


def contexts(spec: Spec, folders: Folders) -> dict[str, Context]:
    """A context for each experiment of the scale."""
    return {name: Context(spec, folders, name) for name in spec.scale.experiments}


def sharing_draws(spec: Spec) -> set[str]:
    """The experiments of the scale that may share runs with each other."""
    names = spec.scale.experiments
    return {name for name in names if any(other in names for other in drawing_alike(spec, name)[1:])}


def trained_as(spec: Spec, folders: Folders) -> dict[Run, Run]:
    """For each run of the scale, the first run in the plan's order with the same key: itself, or its twin."""
    by_experiment, share = contexts(spec, folders), sharing_draws(spec)
    first: dict[str, Run] = {}
    return {
        run: first.setdefault(by_experiment[run.experiment].key(run), run) if run.experiment in share else run
        for run in all_runs(spec)
    }


@lru_cache(maxsize=4)
def waits(spec: Spec, folders: Folders) -> dict[str, list[Stage]]:
    """For each stage that reuses runs of earlier experiments, the stages that train these runs."""
    if not sharing_draws(spec):
        return {}
    owners = trained_as(spec, folders)
    home: dict[Run, Stage] = {}
    waiting: dict[str, list[Stage]] = {}
    for stage in stages(spec):
        for run in (run for stack in stacks(spec, stage) for run in stack):
            home[run] = stage
            if owners[run] != run:
                waiting.setdefault(stage.name, []).append(home[owners[run]])
    return {name: list(dict.fromkeys(before)) for name, before in waiting.items()}


def stored(spec: Spec, folders: Folders) -> dict[Run, bool]:
    """The finished runs of the scale, and whether each is stored by another scale or experiment.

    Reads only records: an altered file is detected when its run is reused. A run counts if its inputs count too, with
    the checksums in its record. A run that was pulled without tensors counts: it is trained again only if a new run
    starts from it.
    """
    if not any(Folders(base).runs.exists() for base in (folders.base, *folders.others)):
        return {}
    by_experiment = contexts(spec, folders)
    sums: dict[str, str] = {}
    in_store: dict[Run, bool] = {}
    for run in all_runs(spec):
        context = by_experiment[run.experiment]
        key = context.key(run)
        for store, name, record in chain(
            context.store.candidates(run.id, key), _left_elsewhere(context.store, run.id, key)
        ):
            if not _lineage(context, run, record, sums) or not _kept(context, run, record):
                continue
            sums[run.id] = record["sha256"]
            if is_dense(run) and record["status"] == "ok":
                parts = store.read(f"{name}{SNAPSHOTS}").get("parts", {})
                sums |= {f"{run.id}{SNAPSHOTS}/{part}": checksum for part, checksum in parts.items()}
            in_store[run] = store is not context.store
            break
    return in_store


def _left_elsewhere(store: Store, run: str, key: str) -> Iterator[tuple[Store, str, dict[str, Any]]]:
    """The run's record, if it was pulled without tensors."""
    if store.record_path(run).exists() and not store.tensors_path(run).exists():
        record = store.read(run)
        if record.get(PULLED) and record.get("key") == key:
            yield store, run, record


def _kept(context: Context, run: Run, record: dict[str, object]) -> bool:
    """Whether a dense run has all required snapshots."""
    if not is_dense(run):
        return True
    steps = record.get("snapshots")
    return isinstance(steps, list) and set(context.setting.snapshot_steps()) <= set(steps)


def _lineage(context: Context, run: Run, record: dict[str, object], sums: dict[str, str]) -> bool:
    """Whether a run's inputs are those stored here; a data set that is not prepared yet is not compared."""
    inputs = record.get("inputs")
    if not isinstance(inputs, dict) or DATA not in inputs:
        return False
    if context.folders.data(context.setting.data).exists() and inputs[DATA] != context.data_content:
        return False
    networks = {name: checksum for name, checksum in inputs.items() if name != DATA}
    return all(sums.get(f"{run.experiment}/{name}") == checksum for name, checksum in networks.items())


def remaining(runs: Iterable[Run], owners: dict[Run, Run], in_store: dict[Run, bool]) -> list[Run]:
    """The runs still to be trained, without duplicates."""
    return list(dict.fromkeys(owners[run] for run in runs if run not in in_store))
