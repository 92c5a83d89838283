"""Export one ticket for use elsewhere: ticket.safetensors, named as in a plain PyTorch network, and a card."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.base.errors import HarnessError
from harness.base.files import canonical_json, file_sha256, write_atomically, write_text
from harness.base.untrusted import check_safetensors, read_checked_json
from harness.base.words import escape_markdown
from harness.data import SOURCES, source_of
from harness.paper import Spec
from harness.paper.load import dump
from harness.paper.models import reference
from harness.plan.runs import Run, dense_run
from harness.report.card import read_card
from harness.results.folders import Folders
from harness.share import plain_torch
from harness.stages.tickets import FILE, Pack, open_pack, pack_path, save

TENSORS = "ticket.safetensors"
CARD = "README.md"
UNUSED: tuple[Any, ...] = (None, [], "none")  # values of recipe fields that a recipe does not use
WEIGHTS, MASK = "weights/", "mask/"


@dataclass(frozen=True)
class Ticket:
    """A ticket. `weights` is the state_dict of a plain PyTorch network at the rewind iteration. `masks` has uint8 masks
    (1: keep) by the names of its weights. `origin` describes the run that the ticket comes from."""

    weights: dict[str, Tensor]
    masks: dict[str, Tensor]
    origin: dict[str, Any]

    @torch.no_grad()
    def prune(self, network: nn.Module) -> None:
        """Set a plain network's pruned weights to zero. Call it before training and after every optimizer step."""
        for name, parameter in network.named_parameters():
            if name in self.masks:
                parameter.mul_(self.masks[name].to(parameter.device))


def load_ticket(path: str | Path) -> Ticket:
    """Read an exported ticket from its folder or from the ticket.safetensors in it.

    The file is untrusted. Raises HarnessError if it is missing or broken.
    """
    path = Path(path)
    path = path / TENSORS if path.is_dir() else path
    headers, metadata = check_safetensors(path)
    shapes = {name: shape for name, (_, shape) in headers.items()}
    try:
        origin = json.loads(metadata["ticket"])
        tensors = load_file(path)
    except (KeyError, ValueError, RecursionError, SafetensorError):
        raise HarnessError(f"{path}: not a ticket; write one with `harness ticket export`") from None
    weights, masks = (
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        for prefix in (WEIGHTS, MASK)
    )
    misfits = [name for name in masks if shapes.get(f"{WEIGHTS}{name}") != shapes[f"{MASK}{name}"]]
    if misfits or not masks or not isinstance(origin, dict):
        raise HarnessError(f"{path}: its masks don't match its weights. Write it again with `harness ticket export`")
    return Ticket(weights, masks, origin)


def packs(folders: Folders) -> dict[str, dict[int, Path]]:
    """The files of a run's tickets, by experiment and replicate."""
    paths: dict[str, dict[int, Path]] = {}
    for path in sorted(folders.tickets.glob("*/*")):
        if FILE.fullmatch(path.name):
            paths.setdefault(path.parent.name, {})[int(path.stem[1:])] = path
    return paths


def pack_checksums(folders: Folders) -> dict[str, str]:
    """SHA-256 of each file of tickets by its name in the run: by the card, or before there is one by its stage."""
    if folders.card.exists():
        return {name: entry["sha256"] for name, entry in read_card(folders)["files"].items()}
    records = folders.base.glob("stages/*/*/tickets.json")
    return {name: checksum for record in records for name, checksum in _outputs(record).items()}


def checked_pack(folders: Folders, path: Path, checksums: Mapping[str, str]) -> Pack:
    """Open a file of tickets that has its checksum of `pack_checksums`. Raises HarnessError for an altered file."""
    if checksums.get(path.relative_to(folders.base).as_posix()) != file_sha256(path):
        source = folders.card.name if folders.card.exists() else "the record of its stage"
        raise HarnessError(
            f"{path}: its checksum is not the one in {source}. Pull it again, or run `harness reproduce` again."
        )
    return open_pack(path)


def _outputs(record: Path) -> dict[str, str]:
    content = read_checked_json(record)
    outputs = content.get("outputs") if isinstance(content, dict) else None
    return outputs if isinstance(outputs, dict) else {}


def find_pack(spec: Spec, folders: Folders, experiment: str, replicate: int) -> Pack:
    """The pack of a replicate. Raises HarnessError that lists the existing ones, or says how to get a missing one."""
    paths, planned = packs(folders), spec.scale.experiments
    if not paths:
        raise HarnessError(f"{folders.tickets}: no tickets here. {how_to_get(spec)}")
    if experiment not in paths and experiment not in planned:
        raise HarnessError(f"--experiment {experiment!r:.80}: not in this run; choose one of {', '.join(paths)}")
    expected = range(planned[experiment].replicates) if experiment in planned else ()
    if replicate not in paths.get(experiment, {}):
        if replicate in expected:
            raise HarnessError(f"{pack_path(folders, experiment, replicate)}: missing. {how_to_get(spec)}")
        names = ", ".join(map(str, sorted({*expected, *paths.get(experiment, {})})))
        raise HarnessError(f"--replicate {replicate}: {experiment} has replicates {names}")
    pack = checked_pack(folders, pack_path(folders, experiment, replicate), pack_checksums(folders))
    if (pack.metadata.experiment, pack.metadata.replicate) != (experiment, replicate):
        raise HarnessError(
            f"{pack.path}: is a pack of {pack.metadata.experiment}, replicate {pack.metadata.replicate}. Pull it again"
        )
    return pack


def how_to_get(spec: Spec) -> str:
    """How to get missing tickets."""
    options = f"--paper {spec.paper.id} --scale {spec.scale_name}"
    return f"`harness reproduce {options}` creates them; `harness pull` downloads those of a shared run"


def check_choice(pack: Pack, k: int, level: int, branch: str) -> None:
    """Raise HarnessError that lists the existing tickets, for one that the pack does not have."""
    keys, owner = pack.masks(), f"{pack.metadata.experiment}, replicate {pack.metadata.replicate}"
    branches = sorted({key[0] for key in keys})
    if branch not in branches:
        raise HarnessError(f"--branch {branch!r:.40}: {owner} has tickets of {', '.join(branches) or 'no branch'}")
    steps = sorted({key[1] for key in keys if key[0] == branch})
    if k not in steps:
        raise HarnessError(f"--k {k}: {owner} has {branch} tickets at k = {', '.join(map(str, steps))}")
    levels = [key[2] for key in keys if key[:2] == (branch, k)]
    if level not in levels:
        names = ", ".join(map(str, levels))
        raise HarnessError(f"--level {level}: {owner} has {branch} tickets at k = {k} of levels {names}")


def check_network(spec: Spec, pack: Pack) -> None:
    """Raise HarnessError unless a pack's network can be exported and has the input shape and classes of its data set.

    The network is built from these sizes, so a forged pack could ask for any amount of memory.
    """
    metadata, own = pack.metadata, spec.scale.data
    source = source_of(metadata.data, own) if metadata.data in (*own, *SOURCES) else None
    expected = (source.shape, source.classes) if source else "not known here"
    if (metadata.input_shape, metadata.classes) != expected:
        actual = f"({metadata.input_shape!s:.60}, {metadata.classes!s:.20})"
        raise HarnessError(
            f"{pack.path}: input_shape, classes: {actual}: not those of data set {metadata.data!r:.40}, {expected}. "
            "Pull it again"
        )
    if not plain_torch.defined(metadata.network):
        raise HarnessError(
            f"{pack.path}: network {metadata.network!r:.40} has no definition in plain PyTorch, so its tickets "
            "can't be exported. Add one to harness/share/plain_torch.py"
        )


def check_out(out: Path) -> None:
    """Raise HarnessError if an export would replace a card or tensors in this folder that are no earlier export."""
    existing = [out / name for name in (CARD, TENSORS) if os.path.lexists(out / name)]
    if not existing:
        return
    try:
        load_ticket(out)
        exported = file_sha256(out / TENSORS) in (out / CARD).read_text(encoding="utf-8")
    except (HarnessError, OSError, ValueError):
        exported = False
    if not exported:
        raise HarnessError(
            f"--out {out}: has a {existing[0].name} that is no earlier export of a ticket. "
            "Give another folder, or move the file"
        )


def ticket_of(spec: Spec, folders: Folders, experiment: str, replicate: int, k: int, level: int, branch: str) -> Ticket:
    """A ticket of a run. Raises HarnessError for one that does not exist, or whose network can't be exported."""
    pack = find_pack(spec, folders, experiment, replicate)
    check_choice(pack, k, level, branch)
    check_network(spec, pack)
    shape = (pack.metadata.network, pack.metadata.input_shape, pack.metadata.classes)
    try:
        weights = plain_torch.state_dict(*shape, pack.rewound(k))
        masks = plain_torch.masks(*shape, pack.mask(branch, k, level))
    except (KeyError, ValueError) as error:
        raise HarnessError(
            f"{pack.path}: its tensors are not those of {pack.metadata.network} ({error!s:.80})"
        ) from None
    return Ticket(weights, masks, _origin(pack, folders, Run(experiment, replicate, k, level, branch, 0), masks))


def export(
    spec: Spec, folders: Folders, experiment: str, replicate: int, k: int, level: int, branch: str, out: Path
) -> Ticket:
    """Write a ticket and its card to the folder `out`.

    Raises HarnessError as `ticket_of`, and if the folder has other files of the same names.
    """
    ticket = ticket_of(spec, folders, experiment, replicate, k, level, branch)
    check_out(out)
    tensors = {f"{WEIGHTS}{name}": value for name, value in ticket.weights.items()}
    tensors |= {f"{MASK}{name}": value for name, value in ticket.masks.items()}
    metadata = {"format": "pt", "ticket": canonical_json(ticket.origin)}
    write_atomically(out / TENSORS, partial(save, tensors, metadata))
    title = spec.experiments[experiment].title if experiment in spec.experiments else experiment
    pack = find_pack(spec, folders, experiment, replicate)
    write_text(out / CARD, card(spec, pack, ticket.origin, title, file_sha256(out / TENSORS)))
    return ticket


def _origin(pack: Pack, folders: Folders, run: Run, masks: dict[str, Tensor]) -> dict[str, Any]:
    """Where a ticket comes from, as JSON."""
    total = sum(mask.numel() for mask in masks.values())
    networks = read_checked_json(folders.networks) if folders.networks.exists() else {}
    provenance = read_checked_json(folders.provenance) if folders.provenance.exists() else {}
    dense = dense_run(run.experiment, run.replicate)
    metadata = pack.metadata
    return {
        **metadata.model_dump(include={"paper", "experiment", "replicate", "network", "data", "data_checksum"}),
        **{"k": run.k, "level": run.level, "branch": run.branch, "run": run.id},
        **{"remaining": round(density(masks) * total), "prunable": total, "density": density(masks)},
        "input_shape": list(metadata.input_shape),
        "classes": metadata.classes,
        "recipe": dump(metadata.recipe),
        "restart": metadata.restart,
        "test_accuracy": accuracy(networks, run),
        "dense_test_accuracy": accuracy(networks, dense),
        "code_revision": str(provenance.get("code_revision", "")) if isinstance(provenance, dict) else "",
        "pack_sha256": file_sha256(pack.path),
    }


def density(masks: dict[str, Tensor]) -> float:
    """The share of prunable weights that remains."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def accuracy(networks: Any, run: Run) -> float | None:
    """A run's test accuracy in percent, from the content of networks.json. None if that does not have it."""
    record = networks.get(run.id) if isinstance(networks, dict) else None
    value = record.get("test_accuracy") if isinstance(record, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def card(spec: Spec, pack: Pack, origin: dict[str, Any], title: str, sha256: str) -> str:
    """The ticket card in Markdown: where the ticket comes from, and plain PyTorch that trains it as in the run."""
    remaining = f"{origin['remaining']:,} of {origin['prunable']:,}"
    rows = {
        "paper": spec.paper.title + (f" ({number})" if (number := reference(spec.paper.arxiv, spec.paper.doi)) else ""),
        "experiment": f"{origin['experiment']}: {title}",
        "replicate, branch": f"{origin['replicate']}, {origin['branch']}",
        "rewind iteration k, level": f"{origin['k']}, {origin['level']}",
        "density": f"{origin['density']:.6g}: {remaining} prunable weights remain",
        "test accuracy of the network trained from it": _percent(origin["test_accuracy"]),
        "test accuracy of the dense network": _percent(origin["dense_test_accuracy"]),
        "network, data set": f"{origin['network']}, {origin['data']}",
        "recipe": ", ".join(f"{key} {value}" for key, value in origin["recipe"].items() if value not in UNUSED),
        "code revision": origin["code_revision"] or "not recorded",
        f"SHA-256 of {TENSORS}, of the run's pack": f"{sha256}, {origin['pack_sha256']}",
        "checksum of the data set": origin["data_checksum"],
    }
    table = "\n".join(f"| {key} | {escape_markdown(value)} |" for key, value in rows.items())
    recipe = pack.metadata.recipe
    schedule = "starts from the beginning" if origin["restart"] else f"continues at step {origin['k']}"
    augmented = f" Training batches are augmented ({recipe.augmentation})." if recipe.augmentation != "none" else ""
    return f"""# A ticket of {escape_markdown(title)}

A mask, and the weights at step {origin["k"]} of a dense training. `{TENSORS}` has both: `weights/` as in the
state_dict of a plain PyTorch network, `mask/` as ones (keep) and zeros.

| | |
|---|---|
{table}

## Train it

The optimizer starts fresh. The learning rate schedule {schedule}.{augmented}

```python
{_code(pack, 0 if origin["restart"] else origin["k"])}```
"""


def _code(pack: Pack, start: int) -> str:
    """Plain PyTorch that loads a ticket and trains it from step `start` on."""
    shape, recipe = pack.metadata.input_shape, pack.metadata.recipe
    samples = f"x [{recipe.batch_size}, {', '.join(map(str, shape))}], y [{recipe.batch_size}]"
    return f"""import torch
from safetensors.torch import load_file
from torch import nn


{plain_torch.definition(pack.metadata.network, shape, pack.metadata.classes)}

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
    optimizer = {plain_torch.optimizer(recipe)}
    network.train()
    prune()
    for step in range({start}, {recipe.steps}):
        for group in optimizer.param_groups:
            group["lr"] = {plain_torch.learning_rate(recipe)}
        x, y = next(batches)
        optimizer.zero_grad()
        {plain_torch.loss(pack.metadata.network)}.backward()
        optimizer.step()
        prune()
"""


def _percent(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.2f}%"
