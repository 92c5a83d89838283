"""What each network and each stage was made from: networks.json and the stages' records against plan and files."""

from collections.abc import Iterator
from typing import Any

from harness.base.files import file_sha256
from harness.lottery.branches import BRANCHES
from harness.plan.courses import course, steps_of
from harness.plan.kinds import prepares
from harness.plan.runs import Run, Stage, dense_run, parents, stages
from harness.results.context import DATA, Context
from harness.results.fit import own_networks, written
from harness.results.keys import stage_digest
from harness.results.store import SNAPSHOTS
from harness.results.stored import contexts
from harness.stages.train import place_of
from harness.verify import packs
from harness.verify.differences import differences, shown
from harness.verify.records import Network
from harness.verify.shared_run import SharedRun

SCORES = tuple(f"{split}_{measure}" for split in ("train", "test") for measure in ("accuracy", "loss"))


def networks(shared: SharedRun) -> Iterator[str]:
    """Every network of the plan and no other, each as the plan says, made from those that it names."""
    runs = shared.runs()
    dense = {dense_run(run.experiment, run.replicate) for run in runs}
    for name in sorted(set(shared.networks) - {run.id for run in runs} - {f"{run.id}{SNAPSHOTS}" for run in dense}):
        yield f"networks.json: {shown(name)}: is not in the plan"
    by_experiment = contexts(shared.spec, shared.folders)
    for run in runs:
        network, context, place = shared.networks.get(run.id), by_experiment[run.experiment], f"networks.json: {run.id}"
        if network is None:
            yield f"{place}: is missing"
            continue
        planned = _planned(shared, context, run, network)
        recorded = {name: getattr(network, name) for name in planned} | {"parts": sorted(network.parts)}
        yield from differences(place, recorded, planned, "the plan says")
        yield from (f"{place}: {line}" for line in _ending(shared, context, run, network))
        if run in dense:
            steps = set(context.setting.snapshot_steps())  # another scale, from which it was taken, may have kept more
            stored = shared.networks.get(f"{run.id}{SNAPSHOTS}")
            kept = {f"k{step}" for step in steps} <= set(stored.parts) if stored else True
            if not steps <= set(network.snapshots) or not kept:
                yield f"{place}: has not the snapshots of the steps {sorted(steps)}"


def _planned(shared: SharedRun, context: Context, run: Run, network: Network) -> dict[str, Any]:
    """What plan, spec and the networks that it starts from settle of a network."""
    pruned = run.branch != "dense" and network.trained
    kept, total = packs.remaining(shared, run)
    parts = ["final", "mask"] if pruned else ["final"]
    known = shared.same_code("training")
    return {
        "id": run.id,
        **vars(run),
        "steps": steps_of(shared.spec, run),
        "density": kept / total if network.trained else None,
        "remaining": kept if pruned else None,
        "prunable": total if pruned else None,
        "parts": parts if network.trained else [],
        "inputs": _inputs(shared, context, run, network),
        **({"key": context.key(run)} if known else {}),
    }


def _inputs(shared: SharedRun, context: Context, run: Run, network: Network) -> dict[str, str | None]:
    """The checksums of what a network starts from; its own word where that is missing, which is said there."""
    known, dense = shared.networks, dense_run(run.experiment, run.replicate)
    content = shared.record(prepares(context.setting.data))["outputs"].get("content")
    if run == dense:
        return {DATA: content}
    parent, snapshots = context.parent(run).id, f"{dense.id}{SNAPSHOTS}"
    if parent not in known or snapshots not in known:
        return dict(network.inputs)
    expected: dict[str, str | None] = {DATA: content, place_of(parent): known[parent].sha256}
    if known[parent].status == "ok" and BRANCHES[run.branch].rewinds:
        expected[f"{place_of(snapshots)}/k{run.k}"] = known[snapshots].parts.get(f"k{run.k}")
    if known[parent].status == "ok" and BRANCHES[run.branch].reads_dense:
        expected[place_of(dense.id)] = known[dense.id].sha256
    return expected


def _ending(shared: SharedRun, context: Context, run: Run, network: Network) -> Iterator[str]:
    """How it ended: with scores, or without any where it or what it starts from diverged."""
    for name in SCORES:
        score, healthy = getattr(network, name), network.status == "ok"
        most = 100 if name.endswith("accuracy") else float("inf")
        if healthy if score is None else not healthy or not 0 <= score <= most:
            yield f"{name} is {score} where its status is {network.status}"
            break
    step, last = network.diverged_at, course(shared.spec, run).recipe.steps
    if (step is not None) != (network.status == "diverged") or not 0 <= (step or 0) <= last:
        yield f"diverged_at is {step} where its status is {network.status}"
    before = "ok"
    if run != dense_run(run.experiment, run.replicate):
        before = getattr(shared.networks.get(context.parent(run).id), "status", network.status)
    if (network.status == "ancestor_diverged") != (before != "ok"):
        yield f"its status is {network.status}, and that of what it starts from {before}"


def stage_records(shared: SharedRun) -> Iterator[str]:
    """The stages' records: each made with the spec's settings, from the records and to the files that are here."""
    for stage in stages(shared.spec):
        recorded = shared.record(stage.name)
        paths = {parent.name: shared.folders.stage(parent.name) for parent in parents(shared.spec, stage)}
        expected: dict[str, Any] = {
            "stage": stage.name,
            "kind": stage.kind,
            "experiment": stage.experiment,
            "inputs": {name: file_sha256(path) if path.is_file() else "" for name, path in paths.items()},
            "outputs": _outputs(shared, stage),
        }
        code = ("stability", "training") if stage.kind == "stability" else ("training",)
        if shared.same_code(*code, "data") and stage.kind != "tickets":
            expected["digest"] = stage_digest(shared.spec, shared.folders, stage.name)
        place = f"stages/{stage.name}.json"
        recorded = {name: recorded[name] for name in expected}
        yield from differences(place, recorded, expected, "files and settings here give")


def _outputs(shared: SharedRun, stage: Stage) -> dict[str, str]:
    """The checksums of what a stage wrote: of files, or of networks by networks.json."""
    if files := written(shared.folders, stage):
        return {name: file_sha256(path) for name, path in files.items() if path.is_file()}
    names = own_networks(shared.spec, stage) & shared.networks.keys()
    # snapshots of a run that diverged are stored, and not named
    diverged = {f"{name}{SNAPSHOTS}" for name in names if shared.networks[name].status != "ok"}
    return {name: shared.networks[name].sha256 for name in names - diverged}
