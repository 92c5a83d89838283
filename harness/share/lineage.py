"""networks.json against the plan: which networks there are, what they are, and what each was made from."""

from collections.abc import Iterator

from harness.plan import Run, dense_run, steps_of
from harness.pruning import keep_count
from harness.share import packs
from harness.share.given import Given, Network
from harness.training.store import SNAPSHOTS
from harness.workflow.context import Context
from harness.workflow.train import _parent, _place

SCORES = tuple(f"{split}_{measure}" for split in ("train", "test", "validation") for measure in ("accuracy", "loss"))


def networks(given: Given) -> Iterator[str]:
    """Every network of the plan and no other, each as the plan says, made from those that it names."""
    for name in sorted(set(given.networks) - set(given.expected())):
        yield f"networks.json: {name!r:.120}: is not in the plan"
    contexts = {name: Context(given.spec, given.folders, name) for name in given.spec.scale.experiments}
    for run in given.runs():
        network = given.networks.get(run.id)
        if network is None:
            yield f"networks.json: {run.id}: is missing"
            continue
        context = contexts[run.experiment]
        for check in (_facts, _ending, _inputs):
            yield from (f"networks.json: {run.id}: {line}" for line in check(given, context, run, network))


def _facts(given: Given, context: Context, run: Run, network: Network) -> Iterator[str]:
    """What the plan and the spec settle."""
    pruned, total = run.branch != "dense" and network.trained, packs.prunable_total(given, run.experiment)
    kept = keep_count(total, context.setting.pruning.density(run.level))
    planned: dict[str, object] = {
        "id": run.id,
        **vars(run),
        "steps": steps_of(run, context.recipe.steps, context.setting.restart),
        "density": packs.density(given, run) if network.trained else None,
        "remaining": kept if pruned else None,
        "prunable": total if pruned else None,
    }
    for name, expected in planned.items():
        if getattr(network, name) != expected:
            yield f"{name} {getattr(network, name)!r:.80}, the plan says {expected!r:.80}"
    if given.same_code("training") and network.key != context.key(run):
        yield "its key is not that of the spec's settings"
    parts = {"final", "mask"} if pruned else {"final"}
    if set(network.parts) != (parts if network.trained else set()):
        yield f"has checksums of {', '.join(sorted(network.parts)) or 'nothing'!s:.80}"
    if run == dense_run(run.experiment, run.replicate):
        steps = set(context.setting.snapshot_steps())  # another scale, from which it was taken, may have kept more
        stored = given.networks.get(f"{run.id}{SNAPSHOTS}")
        if not steps <= set(network.snapshots) or (stored and not {f"k{step}" for step in steps} <= set(stored.parts)):
            yield f"has not the snapshots of the steps {sorted(steps)}"


def _ending(given: Given, context: Context, run: Run, network: Network) -> Iterator[str]:
    """How it ended: with scores, or without any where it or what it starts from diverged."""
    scores = {name: getattr(network, name) for name in SCORES}
    due = [name for name in scores if name.startswith(("train", "test"))]
    wrong = [
        name
        for name, value in scores.items()
        if (value is None and network.status == "ok" and name in due)
        or (value is not None and (network.status != "ok" or not 0 <= value <= (100 if "acc" in name else value)))
    ]
    if wrong:
        yield f"{wrong[0]} is {scores[wrong[0]]} where its status is {network.status}"
    step = network.diverged_at
    if (step is not None) != (network.status == "diverged") or not 0 <= (step or 0) <= context.recipe.steps:
        yield f"diverged_at is {step} where its status is {network.status}"
    if run == dense_run(run.experiment, run.replicate):
        before = "ok"
    else:
        before = getattr(given.networks.get(_parent(context, run).id), "status", network.status)
    if (network.status == "ancestor_diverged") != (before != "ok"):
        yield f"its status is {network.status}, and that of what it starts from {before}"


def _inputs(given: Given, context: Context, run: Run, network: Network) -> Iterator[str]:
    """The checksums of what it starts from against those networks' own."""
    found, dense = given.networks, dense_run(run.experiment, run.replicate)
    expected: dict[str, str | None] = {}
    if run != dense:
        parent, snapshots = _parent(context, run).id, f"{dense.id}{SNAPSHOTS}"
        if parent not in found or snapshots not in found:
            return  # said of the one that is missing
        expected[_place(parent)] = found[parent].sha256
        if found[parent].status == "ok" and run.branch != "random_reinit":
            expected[f"{_place(snapshots)}/k{run.k}"] = found[snapshots].parts.get(f"k{run.k}")
    for name in sorted({*expected, *network.inputs}):
        if network.inputs.get(name, "") != expected.get(name):
            yield f"was trained from another {name!r:.120}"
