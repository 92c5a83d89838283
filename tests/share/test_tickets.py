"""Packs of tickets against the stored runs, and exported tickets against plain PyTorch without the harness."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from typer.testing import CliRunner

import harness
from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json, write_json
from harness.base.paths import checkout
from harness.cli import app as cli
from harness.cli import options
from harness.data import source_of
from harness.networks import build, initialise, prunable_names
from harness.paper import load_spec
from harness.paper.models import Setting
from harness.plan.runs import Run, all_runs, stages, tickets
from harness.results.fit import forget_broken
from harness.results.keys import stage_digest
from harness.share import plain_torch
from harness.share.export import check_choice, export, find_pack, load_ticket
from harness.share.ticket_table import ticket_table
from harness.stages.collect import networks
from harness.stages.tickets import open_pack, pack, pack_path, save
from harness.training.recipe import learning_rate
from harness.training.updates import Updater
from harness.workflow.run_stage import run_stage
from tests.tiny import SETTING, tiny_context


def test_a_pack_holds_every_mask_and_the_weights_they_are_rewound_to(tiny_run):
    for replicate in range(2):
        stored_pack = open_pack(pack_path(tiny_run.folders, "lenet", replicate))
        assert stored_pack.masks() == [
            ("imp", 0, 1),
            ("imp", 0, 2),
            ("imp", 5, 1),
            ("imp", 5, 2),
            ("snip", 0, 2),
            ("snip", 5, 2),
        ]
        for branch, k, level in stored_pack.masks():
            stored = tiny_run.context.store.load_part(Run("lenet", replicate, k, level, branch, 0).id, "mask/")
            mask = stored_pack.mask(branch, k, level)
            assert list(mask) == ["hidden1.weight", "hidden2.weight", "output.weight"]
            assert all(torch.equal(mask[name], stored[name]) for name in stored)
            assert sum(int(part.sum()) for part in mask.values()) == round(50_200 * 0.64**level)
        for k in (0, 5):
            snapshot = tiny_run.context.store.load_part(f"lenet/r{replicate}/k0/L0-dense-o0.snapshots", f"k{k}/")
            rewound = stored_pack.rewound(k)
            assert rewound.keys() == {name for name in snapshot if not name.startswith("optimizer/")}
            assert all(torch.equal(rewound[name], snapshot[name]) for name in rewound)


def test_the_stages_record_names_the_packs_and_what_they_were_made_from(tiny_run):
    record = read_json(tiny_run.folders.stage("lenet/c0/tickets"))
    names = [f"tickets/lenet/r{replicate}.safetensors" for replicate in range(2)]
    assert record["outputs"] == {name: file_sha256(tiny_run.base / name) for name in names}
    assert "lenet/c0/dense" in record["inputs"]
    assert record["steps"] == record["training_seconds"] == 0
    assert record["image"] == ""


def test_the_same_tickets_are_the_same_bytes(tiny_run, tmp_path):
    """The library writes metadata in another order each time."""
    for attempt in range(4):
        save(*pack(tiny_run.context, 0), tmp_path / f"{attempt}.safetensors")
    sums = {file_sha256(path) for path in tmp_path.iterdir()}
    assert sums == {file_sha256(pack_path(tiny_run.folders, "lenet", 0))}


def test_diverged_runs_are_left_out(copy):
    store, run = copy.context.store, Run("lenet", 0, 5, 2, "imp", 0).id
    store.write(run, {**store.read(run), "status": "diverged"}, store.load(run))
    dense = "lenet/r1/k0/L0-dense-o0"
    store.write(dense, {**store.read(dense), "status": "diverged"}, store.load(dense))
    for name in tickets(copy.context.spec, stages(copy.context.spec)[-1]):
        if name.replicate == 1:
            store.write(name.id, {**store.read(name.id), "status": "ancestor_diverged"}, {})
    copy.stage("lenet/c0/tickets")
    first, second = (open_pack(pack_path(copy.folders, "lenet", replicate)) for replicate in range(2))
    assert ("imp", 5, 1) in first.masks()
    assert ("imp", 5, 2) not in first.masks()
    assert (second.masks(), second.steps) == ([], [])
    with pytest.raises(HarnessError, match=r"has tickets of no branch$"):
        check_choice(second, 0, 1, "imp")


def test_an_altered_or_missing_pack_is_made_again(copy):
    spec, folders = copy.context.spec, copy.folders
    path = pack_path(folders, "lenet", 1)
    before = path.read_bytes()
    assert forget_broken(spec, folders) == []
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert forget_broken(spec, folders) == [f"lenet/c0/tickets: {path} is missing or altered"]
    copy.stage("lenet/c0/tickets")
    assert path.read_bytes() == before
    path.unlink()
    assert forget_broken(spec, folders) == [f"lenet/c0/tickets: {path} is missing or altered"]


def test_a_record_whose_names_lead_elsewhere_is_made_again_and_nothing_is_deleted(copy):
    outside = copy.base.parent / "mine.json"
    outside.write_text("{}")
    record = copy.folders.stage("lenet/c0/k5-L1-2")
    record.write_text(record.read_text().replace('"lenet/r0/k5/L1-imp-o0"', '"../../mine"'))
    assert forget_broken(copy.context.spec, copy.folders) == ["lenet/c0/k5-L1-2: its record is broken"]
    assert outside.exists()


def test_tickets_are_packed_again_when_what_is_packed_changes(tiny_run):
    whole = tiny_run.context.spec

    def digest(**changes):
        setting = Setting.model_validate({**SETTING, **changes})
        spec = replace(whole, scale=whole.scale.model_copy(update={"experiments": {"lenet": setting}}))
        (stage,) = [stage for stage in stages(spec) if stage.kind == "tickets"]
        return stage_digest(spec, tiny_run.folders, stage.name)

    sweeps = {"sweeps": [{"k": [0], "levels": 2}]}
    assert digest(**sweeps) == digest(**sweeps, line={"points": 9})
    others = [{"k": [0], "levels": 1}, {"k": [5], "levels": 2}, {"k": [0], "levels": 2, "at": {1: {"snip": 1}}}]
    assert len({digest(**sweeps), *(digest(sweeps=[sweep]) for sweep in others)}) == 4
    # further data orders and random baselines are not packed
    assert digest(sweeps=[{"k": [0], "levels": 2, "at": {2: {"imp": 2, "random_prune": 1}}}]) == digest(**sweeps)


PLAIN = [("lenet-300-100", "digits"), ("resnet8-1d", "mnist1d"), ("resnet20", "cifar10"), ("plain9-1d", "mnist1d")]
LARGE = [("vgg16", "cifar10"), ("squeezenet", "cifar10"), ("resnet50", "cifar10")]


def plain_network(text: str) -> nn.Module:
    names = {"torch": torch, "nn": nn}
    exec(text, names)  # the card's own code
    return names["network"]


@pytest.mark.parametrize(
    ("name", "data"), [*PLAIN, *(pytest.param(*network, marks=pytest.mark.slow) for network in LARGE)], ids=str
)
def test_the_plain_network_computes_what_the_stack_computes(name, data):
    shape = source_of(data).shape
    stack = build(name, 1, shape, 10)
    initialise(stack, [("test", 0)])
    generator = torch.Generator().manual_seed(1)
    for parameter in stack.parameters():
        if parameter.abs().sum() == 0 or (parameter == 1).all():  # biases and norms as after some training
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    for buffer in stack.buffers():
        buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    stored = {f"weights/{key}": value[0].detach() for key, value in stack.named_parameters()}
    stored |= {f"buffers/{key}": value[0] for key, value in stack.named_buffers()}
    network = plain_network(plain_torch.definition(name, shape, 10))
    network.load_state_dict(plain_torch.state_dict(name, shape, 10, stored))  # every name and shape, none left over
    x = torch.randn(3, *shape, generator=generator)
    with torch.no_grad():
        expected = stack.eval()(x.unsqueeze(0))[0]
        torch.testing.assert_close(network.eval()(x), expected, rtol=1e-4, atol=1e-4)
    kept = {key: (stored[f"weights/{key}"] > 0).to(torch.uint8) for key in prunable_names(stack)}
    for key, mask in plain_torch.masks(name, shape, 10, kept).items():
        assert torch.equal(mask.bool(), dict(network.named_parameters())[key] > 0)


def recipes():
    for paper in ("stabilizing-lth", "linear-mode-connectivity"):
        spec = load_spec(checkout(), paper, "paper")
        yield from (spec.recipe(name) for name in spec.scale.experiments)


def test_the_cards_schedule_and_optimizer_are_those_of_every_recipe():
    seen = set()
    for recipe in recipes():
        rate = compile(plain_torch.learning_rate(recipe), "rate", "eval")
        for step in {0, 1, recipe.warmup, *recipe.drops, recipe.steps // 3, recipe.steps - 1}:
            assert eval(rate, {"step": step}) == pytest.approx(learning_rate(recipe, step), rel=1e-12)
        network = nn.Linear(2, 2)
        optimizer = eval(plain_torch.optimizer(recipe), {"torch": torch, "network": network})
        expected = Updater(recipe, {"weight": nn.Parameter(torch.zeros(1, 2))}, {})._make()
        assert type(optimizer) is type(expected)
        for option in ("momentum", "weight_decay", "betas", "eps", "alpha", "nesterov", "dampening"):
            if option in optimizer.defaults:
                assert optimizer.defaults[option] == expected.defaults[option]
        seen |= {recipe.optimizer, recipe.decay}
    assert seen >= {"momentum", "adam", "rmsprop"}


def test_an_exported_ticket_is_what_was_trained(tiny_run, tmp_path):
    exported = export(tiny_run.context.spec, tiny_run.folders, "lenet", 1, 5, 2, "imp", tmp_path / "ticket")
    for path in (tmp_path / "ticket", tmp_path / "ticket" / "ticket.safetensors"):
        again = harness.load_ticket(path)
        assert again.origin == exported.origin
        assert all(torch.equal(again.weights[name], exported.weights[name]) for name in exported.weights)
    run = Run("lenet", 1, 5, 2, "imp", 0)
    record = tiny_run.context.store.read(run.id)
    assert exported.origin["test_accuracy"] == record["test_accuracy"]
    assert exported.origin["density"] == record["density"]
    final = tiny_run.context.store.load_part(run.id, "final/")
    trained = plain_torch.state_dict("lenet-300-100", (1, 8, 8), 10, final)
    for name, mask in exported.masks.items():
        assert (trained[name][mask == 0] == 0).all()
        assert (trained[name][mask == 1] != 0).float().mean() > 0.99
    network = plain_network(plain_torch.definition("lenet-300-100", (1, 8, 8), 10))
    network.load_state_dict(again.weights)
    again.prune(network)
    kept = sum(int((parameter != 0).sum()) for name, parameter in network.named_parameters() if name in again.masks)
    assert kept == exported.origin["remaining"] == round(50_200 * 0.64**2)
    card = (tmp_path / "ticket" / "README.md").read_text()
    for fact in (f"{record['test_accuracy']:.2f}%", "rewind iteration k, level | 5, 2", "Stabilizing the Lottery"):
        assert fact in card
    assert file_sha256(tmp_path / "ticket" / "ticket.safetensors") in card


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (("vgg", 0, 5, 2, "imp"), r"--experiment 'vgg': not in this run; choose one of lenet"),
        (("lenet", 9, 5, 2, "imp"), r"--replicate 9: lenet has replicates 0, 1"),
        (("lenet", 0, 7, 2, "imp"), r"--k 7: lenet, replicate 0 has imp tickets at k = 0, 5"),
        (("lenet", 0, 5, 3, "imp"), r"--level 3: lenet, replicate 0 has imp tickets at k = 5 of levels 1, 2"),
        (("lenet", 0, 5, 1, "snip"), r"--level 1: lenet, replicate 0 has snip tickets at k = 5 of levels 2"),
        (("lenet", 0, 5, 2, "random_prune"), r"--branch 'random_prune': lenet, replicate 0 has tickets of imp, snip"),
        (("../lenet", 0, 5, 2, "imp"), r"--experiment '\.\./lenet': not in this run; choose one of lenet"),
    ],
)
def test_a_ticket_that_is_not_there_is_one_line(tiny_run, tmp_path, choice, message):
    with pytest.raises(HarnessError) as caught:
        export(tiny_run.context.spec, tiny_run.folders, *choice, tmp_path / "none")
    assert re.fullmatch(message, str(caught.value))
    assert not (tmp_path / "none").exists()


def test_missing_packs_say_how_to_get_them(copy):
    pack_path(copy.folders, "lenet", 1).unlink()
    missing = r"r1\.safetensors: missing\. `harness reproduce --paper .* `harness pull` downloads those of a .* run$"
    with pytest.raises(HarnessError, match=missing):
        find_pack(copy.context.spec, copy.folders, "lenet", 1)
    pack_path(copy.folders, "lenet", 0).unlink()
    with pytest.raises(HarnessError, match=r"tickets: no tickets here\. `harness reproduce"):
        find_pack(copy.context.spec, copy.folders, "lenet", 0)


def test_a_pack_in_anothers_place_is_refused(copy):
    first, second = (pack_path(copy.folders, "lenet", replicate) for replicate in range(2))
    second.write_bytes(first.read_bytes())
    copy.forge_card(second)
    with pytest.raises(HarnessError, match=r"r1\.safetensors: is a pack of lenet, replicate 0\. Pull it again$"):
        find_pack(copy.context.spec, copy.folders, "lenet", 1)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("place", [-1, 4000])
def test_a_pack_with_an_altered_bit_is_not_used(copy, tmp_path, monkeypatch, finished, place):
    """The card has its checksum, and before there is a card the record of its stage."""
    if not finished:
        copy.folders.card.unlink()
    monkeypatch.setattr(options, "scale_of", lambda *_: copy.context.spec)
    monkeypatch.setattr(options, "folders_of", lambda *_: copy.folders)
    assert CliRunner().invoke(cli.app, ["ticket", "list"]).exit_code == 0
    path = pack_path(copy.folders, "lenet", 1)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    source = r"card\.json" if finished else "the record of its stage"
    message = rf"r1\.safetensors: its checksum is not the one in {source}\. Pull it again"
    with pytest.raises(HarnessError, match=message):
        export(copy.context.spec, copy.folders, "lenet", 1, 5, 2, "imp", tmp_path / "ticket")
    assert not (tmp_path / "ticket").exists()
    with pytest.raises(HarnessError, match=message):
        ticket_table(copy.context.spec, copy.folders)


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", None])
def test_what_is_no_ticket_is_one_line(tmp_path, content):
    path = tmp_path / "ticket.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HarnessError, match=re.escape(str(path))) as caught:
        load_ticket(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def at_hand(tiny_run, monkeypatch):
    """The commands see the tiny run."""
    monkeypatch.setattr(options, "scale_of", lambda *_: tiny_run.context.spec)
    monkeypatch.setattr(options, "folders_of", lambda *_: tiny_run.folders)


@pytest.mark.usefixtures("at_hand")
def test_the_commands_list_and_export(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = CliRunner().invoke(cli.app, ["ticket", "list"])
    assert table.exit_code == 0, table.output
    rows = [[cell.strip() for cell in line.split("│")] for line in table.stdout.splitlines() if "│" in line]
    assert [row[1:9] for row in rows if "imp" in row or "snip" in row] == [
        ["lenet", "lenet-300-100", "digits", branch, "0, 1", k, levels, density]
        for branch, levels, density in (("imp", "1, 2", "64% to 41%"), ("snip", "2", "41%"))
        for k in ("0", "5")
    ]
    command = ["ticket", "export", "--experiment", "lenet", "--k", "5", "--level", "1", "--replicate", "1"]
    exported = CliRunner().invoke(cli.app, command)
    assert exported.exit_code == 0, exported.output
    assert load_ticket(tmp_path / "ticket-lenet-r1-k5-L1-imp").origin["level"] == 1


def test_the_package_is_imported_without_pytorch():
    code = "import sys, harness, harness.cli.app; sys.exit(any(name in sys.modules for name in ('torch', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# what a reader would write who has the exported folder and the data set as arrays, and PyTorch
READER = """
import sys
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

ticket, data = load_file(sys.argv[1] + "/ticket.safetensors"), load_file(sys.argv[2])
begin, steps, rate, size = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
torch.manual_seed(7)
torch.set_num_threads(1)

net = torch.nn.Module()
net.hidden1 = torch.nn.Linear(64, 300)
net.hidden2 = torch.nn.Linear(300, 100)
net.output = torch.nn.Linear(100, 10)
def logits(x):
    return net.output(F.relu(net.hidden2(F.relu(net.hidden1(x.reshape(len(x), -1))))))

net.load_state_dict({k[len("weights/"):]: v for k, v in ticket.items() if k.startswith("weights/")})
masks = {k[len("mask/"):]: v.float() for k, v in ticket.items() if k.startswith("mask/")}
weights = dict(net.named_parameters())
optimizer = torch.optim.Adam(net.parameters(), lr=rate)
for step in range(begin, steps):
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name] *= mask
    sample = torch.randint(len(data["train_y"]), (size,))
    loss = F.cross_entropy(logits(data["train_x"][sample]), data["train_y"][sample])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    for name, mask in masks.items():
        weights[name] *= mask
    print(100 * (logits(data["test_x"]).argmax(1) == data["test_y"]).float().mean().item())
assert not [name for name in sys.modules if name.startswith("harness")]
"""

# the card's own lines, and what a reader adds: batches, and the test
CARDS = """
import sys
{code}

torch.manual_seed(7)
torch.set_num_threads(1)
data = load_file(sys.argv[1])
def batches(size):
    while True:
        order = torch.randperm(len(data["train_y"]))
        for part in order[: len(order) // size * size].split(size):
            yield data["train_x"][part], data["train_y"][part]

train(batches({size}))
network.eval()
with torch.no_grad():
    print(100 * (network(data["test_x"]).argmax(1) == data["test_y"]).float().mean().item())
assert not [name for name in sys.modules if name.startswith("harness")]
"""


def accuracy_of(script: str, folder: Path, *arguments: object) -> float:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return float(finished.stdout)


def trained(folder: Path, k: int, **changes):
    """A run of five replicates that keep 41% of their weights, and the range of one more such training.

    The range: a 99% prediction interval by the replicates' accuracies, at least 0.4 points to each side.
    """
    changes |= {"pruning": {"fraction": 0.59}, "sweeps": [{"k": [k], "levels": 1}], "dense_orders": []}
    context = tiny_context(folder, replicates=5, replicates_per_job=5, **changes)
    for name in (
        f"prepare/{context.setting.data}",
        *("lenet/c0/" + part for part in ("dense", f"k{k}-L1-1", "tickets")),
    ):
        run_stage(context.spec, context.folders, name, 1)
    records = {run.id: context.store.read(run.id) for run in all_runs(context.spec)}
    write_json(context.folders.networks, networks(context.store, records))
    values = [record["test_accuracy"] for record in records.values() if record["level"] == 1]
    half = max(stats.t.ppf(0.995, 4) * np.std(values, ddof=1) * 1.2**0.5, 0.4)
    return context, (np.mean(values) - half, np.mean(values) + half)


@pytest.mark.slow
def test_plain_pytorch_reaches_the_recorded_accuracy(tmp_path):
    context, (low, high) = trained(tmp_path / "run", 20, change={"steps": 300})
    assert 95 < low < high < 100
    out = tmp_path / "ticket"
    export(context.spec, context.folders, "lenet", 0, 20, 1, "imp", out)
    data = context.folders.data("digits").with_suffix(".safetensors")
    assert low <= accuracy_of(READER, out, out, data, 20, 300, 0.0012, 60) <= high
    assert low <= accuracy_of(CARDS.format(code=code_of(out), size=60), out, data) <= high


@pytest.mark.slow
def test_the_card_of_a_residual_network_trains_too(tmp_path):
    change = {"optimizer": "momentum", "momentum": 0.9, "learning_rate": 0.05, "batch_size": 64}
    change |= {"steps": 600, "drops": [400, 520]}
    context, (low, high) = trained(tmp_path / "run", 20, network="resnet8-1d", data="mnist1d", change=change)
    out = tmp_path / "ticket"
    export(context.spec, context.folders, "lenet", 0, 20, 1, "imp", out)
    data = context.folders.data("mnist1d").with_suffix(".safetensors")
    assert 85 < low < high < 100
    assert low <= accuracy_of(CARDS.format(code=code_of(out), size=64), out, data) <= high


def code_of(folder: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code
