"""One ticket for use elsewhere: ticket.safetensors with the names of a plain PyTorch network, and a card beside it."""

import json
import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.data import SOURCES
from harness.errors import HarnessError
from harness.files import canonical_json, file_sha256, write_atomically, write_text
from harness.plan import Run, dense_run
from harness.report.formats import escape_markdown
from harness.share import plain
from harness.share.tickets import FILE, Pack, open_pack, pack_path, save
from harness.share.untrusted import check_safetensors, read_checked_json
from harness.spec import Spec
from harness.spec.load import dump
from harness.workflow.context import Folders

TENSORS = "ticket.safetensors"
CARD = "README.md"
UNSAID: tuple[Any, ...] = (None, [], "none")  # values of a recipe's fields that have no meaning for it
WEIGHTS, MASK = "weights/", "mask/"


@dataclass(frozen=True)
class Ticket:
    """A ticket: `weights` is a plain network's state_dict at the rewind iteration, `masks` maps names of its weights to
    uint8 ones (keep) and zeros, `facts` say where it comes from."""

    weights: dict[str, Tensor]
    masks: dict[str, Tensor]
    facts: dict[str, Any]

    @torch.no_grad()
    def prune(self, network: nn.Module) -> None:
        """Set the pruned weights of a plain network to zero: before training it, and after every optimizer step."""
        for name, parameter in network.named_parameters():
            if name in self.masks:
                parameter.mul_(self.masks[name].to(parameter.device))


def load_ticket(path: str | Path) -> Ticket:
    """Read what `harness ticket export` wrote: its folder, or the ticket.safetensors in it.

    Raises HarnessError for a missing or broken file, whoever made it.
    """
    path = Path(path)
    path = path / TENSORS if path.is_dir() else path
    tensors, metadata = check_safetensors(path)
    shapes = {name: shape for name, (_, shape) in tensors.items()}
    try:
        facts = json.loads(metadata["ticket"])
        loaded = load_file(path)
    except (KeyError, ValueError, RecursionError, SafetensorError):
        raise HarnessError(f"{path}: not a ticket; make one with `harness ticket export`") from None
    weights, masks = (
        {name.removeprefix(prefix): value for name, value in loaded.items() if name.startswith(prefix)}
        for prefix in (WEIGHTS, MASK)
    )
    odd = [name for name in masks if shapes.get(f"{WEIGHTS}{name}") != shapes[f"{MASK}{name}"]]
    if odd or not masks or not isinstance(facts, dict):
        raise HarnessError(f"{path}: its masks don't fit its weights. Make it again with `harness ticket export`")
    return Ticket(weights, masks, facts)


def packs(folders: Folders) -> dict[str, dict[int, Path]]:
    """The files of tickets that are there, by experiment and replicate."""
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folders.tickets.glob("*/*")):
        if FILE.fullmatch(path.name):
            found.setdefault(path.parent.name, {})[int(path.stem[1:])] = path
    return found


def find_pack(spec: Spec, folders: Folders, experiment: str, replicate: int) -> Pack:
    """The pack of a replicate. Raises HarnessError that names what there is, and how to get what is not."""
    there, planned = packs(folders), spec.scale.experiments
    if not there:
        raise HarnessError(f"{folders.tickets}: no tickets here. {how_to_get(spec)}")
    if experiment not in there and experiment not in planned:
        raise HarnessError(f"--experiment {experiment!r:.80}: not one of this run; there are {', '.join(there)}")
    known = range(planned[experiment].replicates) if experiment in planned else ()
    if replicate not in there.get(experiment, {}):
        if replicate in known:
            raise HarnessError(f"{pack_path(folders, experiment, replicate)}: missing. {how_to_get(spec)}")
        names = ", ".join(map(str, sorted({*known, *there.get(experiment, {})})))
        raise HarnessError(f"--replicate {replicate}: {experiment} has replicates {names}")
    pack = open_pack(pack_path(folders, experiment, replicate))
    if (pack.facts.experiment, pack.facts.replicate) != (experiment, replicate):
        raise HarnessError(f"{pack.path}: says it is of {pack.facts.experiment}, replicate {pack.facts.replicate}")
    return pack


def how_to_get(spec: Spec) -> str:
    """What to do about tickets that are not there."""
    options = f"--paper {spec.paper.id} --scale {spec.scale_name}"
    return f"`harness reproduce {options}` makes them; those of a shared run come with `harness pull`"


def check_choice(pack: Pack, k: int, level: int, branch: str) -> None:
    """Raise HarnessError, naming what there is, for a ticket that the pack does not hold."""
    there, who = pack.masks(), f"{pack.facts.experiment}, replicate {pack.facts.replicate}"
    branches = sorted({one for one, _, _ in there})
    if branch not in branches:
        raise HarnessError(f"--branch {branch!r:.40}: {who} has tickets of {', '.join(branches) or 'no branch'}")
    steps = sorted({one for name, one, _ in there if name == branch})
    if k not in steps:
        raise HarnessError(f"--k {k}: {who} has {branch} tickets at k = {', '.join(map(str, steps))}")
    levels = [one for name, step, one in there if (name, step) == (branch, k)]
    if level not in levels:
        names = ", ".join(map(str, levels))
        raise HarnessError(f"--level {level}: {who} has {branch} tickets at k = {k} of levels {names}")


def check_network(pack: Pack) -> None:
    """Raise HarnessError unless a pack's network takes the samples of its data set: it is built as large as it says."""
    facts, source = pack.facts, SOURCES.get(pack.facts.data)
    own = (source.shape, source.classes) if source else "not known here"
    if (facts.input_shape, facts.classes) != own:
        said = f"({facts.input_shape!s:.60}, {facts.classes!s:.20})"
        raise HarnessError(
            f"{pack.path}: input_shape, classes: {said}: not those of data set {facts.data!r:.40}, {own}. Pull it again"
        )


def check_out(out: Path) -> None:
    """Raise HarnessError for a folder with a card or tensors that an export would replace, unless it is one itself."""
    there = [out / name for name in (CARD, TENSORS) if os.path.lexists(out / name)]
    try:
        if there:
            load_ticket(out)
        ours = not there or file_sha256(out / TENSORS) in (out / CARD).read_text(encoding="utf-8")
    except (HarnessError, OSError, ValueError):
        ours = False
    if not ours:
        raise HarnessError(
            f"--out {out}: holds {there[0].name}, and is no earlier export of a ticket. Give another folder, or move it"
        )


def export(
    spec: Spec, folders: Folders, experiment: str, replicate: int, k: int, level: int, branch: str, out: Path
) -> Ticket:
    """Write a ticket and its card to the folder `out`.

    Raises HarnessError where there is no such ticket, and for a folder that holds something else under their names.
    """
    pack = find_pack(spec, folders, experiment, replicate)
    check_choice(pack, k, level, branch)
    check_network(pack)
    check_out(out)
    shape = (pack.facts.network, pack.facts.input_shape, pack.facts.classes)
    try:
        weights = plain.state_dict(*shape, pack.rewound(k))
        masks = plain.masks(*shape, pack.mask(branch, k, level))
    except (KeyError, ValueError) as error:
        raise HarnessError(f"{pack.path}: its tensors are not those of {pack.facts.network} ({error!s:.80})") from None
    facts = _facts(pack, folders, Run(experiment, replicate, k, level, branch, 0), masks)  # type: ignore[arg-type]
    tensors = {f"{WEIGHTS}{name}": value for name, value in weights.items()}
    tensors |= {f"{MASK}{name}": value for name, value in masks.items()}
    metadata = {"format": "pt", "ticket": canonical_json(facts)}
    write_atomically(out / TENSORS, partial(save, tensors, metadata))
    title = spec.experiments[experiment].title if experiment in spec.experiments else experiment
    write_text(out / CARD, card(spec, pack, facts, title, file_sha256(out / TENSORS)))
    return Ticket(weights, masks, facts)


def _facts(pack: Pack, folders: Folders, run: Run, masks: dict[str, Tensor]) -> dict[str, Any]:
    """Where a ticket comes from, as JSON."""
    total = sum(mask.numel() for mask in masks.values())
    networks = read_checked_json(folders.networks) if folders.networks.exists() else {}
    made = read_checked_json(folders.provenance) if folders.provenance.exists() else {}
    dense = dense_run(run.experiment, run.replicate)
    given = pack.facts
    return {
        **given.model_dump(include={"paper", "experiment", "replicate", "network", "data", "data_checksum"}),
        **{"k": run.k, "level": run.level, "branch": run.branch, "run": run.id},
        **{"remaining": round(density(masks) * total), "prunable": total, "density": density(masks)},
        "input_shape": list(given.input_shape),
        "classes": given.classes,
        "recipe": dump(given.recipe),
        "restart": given.restart,
        "test_accuracy": accuracy(networks, run),
        "dense_test_accuracy": accuracy(networks, dense),
        "code_revision": str(made.get("code_revision", "")) if isinstance(made, dict) else "",
        "pack_sha256": file_sha256(pack.path),
    }


def density(masks: dict[str, Tensor]) -> float:
    """The share of prunable weights that remains."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def accuracy(networks: Any, run: Run) -> float | None:
    """Test accuracy of a run by networks.json, in percent; None where it does not tell."""
    record = networks.get(run.id) if isinstance(networks, dict) else None
    value = record.get("test_accuracy") if isinstance(record, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def card(spec: Spec, pack: Pack, facts: dict[str, Any], title: str, sha256: str) -> str:
    """The ticket card, Markdown: facts, and plain PyTorch that trains the ticket as it was trained."""
    recipe = pack.facts.recipe
    start = 0 if facts["restart"] else facts["k"]
    samples = f"x [{recipe.batch_size}, {', '.join(map(str, pack.facts.input_shape))}], y [{recipe.batch_size}]"
    rows = {
        "paper": f"{spec.paper.title} (arXiv {spec.paper.arxiv})",
        "experiment": f"{facts['experiment']}: {title}",
        "replicate, branch": f"{facts['replicate']}, {facts['branch']}",
        "rewind iteration k, level": f"{facts['k']}, {facts['level']}",
        "density": f"{facts['density']:.6g}: {facts['remaining']:,} of {facts['prunable']:,} prunable weights remain",
        "test accuracy of the network trained from it": _percent(facts["test_accuracy"]),
        "test accuracy of the dense network": _percent(facts["dense_test_accuracy"]),
        "network, data set": f"{facts['network']}, {facts['data']}",
        "recipe": ", ".join(f"{key} {value}" for key, value in facts["recipe"].items() if value not in UNSAID),
        "code revision": facts["code_revision"] or "not recorded",
        f"SHA-256 of {TENSORS}, of the run's pack": f"{sha256}, {facts['pack_sha256']}",
        "checksum of the data set": facts["data_checksum"],
    }
    table = "\n".join(f"| {key} | {escape_markdown(value)} |" for key, value in rows.items())
    schedule = "from its beginning" if facts["restart"] else f"on from step {start}"
    augmented = f" Training batches are augmented ({recipe.augmentation})." if recipe.augmentation != "none" else ""
    return f"""# A ticket of {escape_markdown(title)}

A mask, and the weights of step {facts["k"]} of a dense training. `{TENSORS}` holds both: `weights/` as in the
state_dict of a plain PyTorch network, `mask/` as ones (keep) and zeros.

| | |
|---|---|
{table}

## Train it

The optimizer starts fresh, the schedule of the learning rate goes {schedule}.{augmented}

```python
import torch
from safetensors.torch import load_file
from torch import nn


{plain.definition(pack.facts.network, pack.facts.input_shape, pack.facts.classes)}

tensors = load_file("{TENSORS}")
weights = {{name[8:]: value for name, value in tensors.items() if name.startswith("weights/")}}
masks = {{name[5:]: value for name, value in tensors.items() if name.startswith("mask/")}}
network.load_state_dict(weights)


@torch.no_grad()
def prune():
    for name, parameter in network.named_parameters():
        if name in masks:
            parameter.mul_(masks[name])


def train(batches):  # yields {samples}
    optimizer = {plain.optimizer(recipe)}
    network.train()
    prune()
    for step in range({start}, {recipe.steps}):
        for group in optimizer.param_groups:
            group["lr"] = {plain.learning_rate(recipe)}
        x, y = next(batches)
        optimizer.zero_grad()
        {plain.loss(pack.facts.network)}.backward()
        optimizer.step()
        prune()
```
"""


def _percent(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.2f}%"
