"""Nothing twice: which runs of a scale are one training, which stage waits for another's, and what is there already."""

from collections.abc import Iterable
from functools import lru_cache

from harness.plan import Run, Stage, all_runs, dense_run, stacks, stages
from harness.sharing import drawing_alike
from harness.spec import Spec
from harness.training.store import SNAPSHOTS
from harness.workflow.context import Context, Folders


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
    counts too, with the checksums in its record.
    """
    if not any(Folders(base).runs.exists() for base in (folders.base, *folders.others)):
        return {}
    found = contexts(spec, folders)
    sums: dict[str, str] = {}
    there: dict[Run, bool] = {}
    for run in all_runs(spec):
        context = found[run.experiment]
        for store, name, record in context.store.candidates(run.id, context.key(run)):
            if not _lineage(run, record, sums) or not _kept(context, run, record):
                continue
            sums[run.id] = record["sha256"]
            if run == dense_run(run.experiment, run.replicate) and record["status"] == "ok":
                parts = store.read(f"{name}{SNAPSHOTS}").get("parts", {})
                sums |= {f"{run.id}{SNAPSHOTS}/{part}": checksum for part, checksum in parts.items()}
            there[run] = store is not context.store
            break
    return there


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
