"""`harness verify`: a finished run passes; whatever is altered in a copy of it is found, whoever wrote the card."""

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from harness import kernels
from harness.base.errors import HarnessError
from harness.base.files import file_sha256
from harness.cli.verify import verify as command
from harness.paper import load_spec
from harness.plan.runs import stages
from harness.results.folders import Folders
from harness.verify import packs
from harness.verify.drawings import DRAWN, drawings
from harness.verify.files import files
from harness.verify.rebuild import page as built_again
from harness.verify.retrain import choose, relative_distance, retrain
from harness.verify.shared_run import SharedRun, open_run
from harness.verify.verify import verify
from harness.workflow.locks import LOCK
from harness.workflow.run_stage import run_stage
from tests.end_to_end.conftest import TINY, Checkout, make_checkout
from tests.verify.alter import change_json, change_pack, change_table, lines_of, list_again, record_again

PAPER, SCALE = "stabilizing-lth", "tiny"
IMP = "lenet/r1/k40/L2-imp-o0"
DENSE = "lenet/r1/k0/L0-dense-o0"
PACK = "tickets/lenet/r1.safetensors"
PRIVATE = ("runs", "data", "state", "progress", "logs", "clock.json", LOCK)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """A finished run with every kind of network, made stage by stage in this process."""
    checkout = make_checkout(tmp_path_factory.mktemp("verify") / "checkout")
    branches = {"imp": 2, "random_prune": 1, "random_reinit": 1, "snip": 1}
    setting = {
        **TINY["experiments"]["lenet"],
        "change": {"steps": 150},
        "dense_orders": [0, 40],
        "sweeps": [{"k": [40], "levels": 2, "at": {2: branches}}],
    }
    scale = checkout.root / "papers" / PAPER / "scales" / f"{SCALE}.yaml"
    scale.write_text(yaml.safe_dump({**TINY, "experiments": {"lenet": setting}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_ROOT", str(checkout.root))
        spec, folders = load_spec(checkout.root, PAPER, SCALE), Folders(checkout.results)
        for name in ["prepare/digits", *(stage.name for stage in stages(spec)), "collect", "claims", "report", "card"]:
            run_stage(spec, folders, name, 1)
    return checkout


@pytest.fixture
def pulled(finished, tmp_path, monkeypatch) -> Path:
    """What a reader has: the shared files alone, and the checkout's papers."""
    monkeypatch.setenv("HARNESS_ROOT", str(finished.root))
    return Path(shutil.copytree(finished.results, tmp_path / SCALE, ignore=shutil.ignore_patterns(*PRIVATE)))


def opened(base: Path) -> SharedRun:
    return open_run(Folders(base), PAPER, SCALE)


def differences(base: Path) -> list[str]:
    return lines_of(opened(base))


def set_cell(row: str, column: str, value: float) -> Callable:
    def change(table: pd.DataFrame) -> None:
        hit = table[table["row"] == row].index[3]
        table.loc[hit, column] = value

    return change


def flip(tensors) -> None:
    tensors["mask/imp/k40/L2"][100] ^= 1


def swap(tensors) -> None:
    """Another mask of the same density: one weight leaves, one comes back."""
    bits = np.unpackbits(tensors["mask/imp/k40/L2"].numpy())
    kept, pruned = np.flatnonzero(bits)[0], np.flatnonzero(bits[:50_000] == 0)[0]
    bits[[kept, pruned]] = [0, 1]
    tensors["mask/imp/k40/L2"].numpy()[:] = np.packbits(bits)


def test_a_finished_run_passes_an_altered_one_does_not_and_both_say_what_was_checked(pulled):
    app = typer.Typer()
    app.command()(command)
    base = Path(shutil.copytree(pulled, pulled.parent / "results" / PAPER / SCALE))
    arguments = ["--scale", SCALE, "--results", str(base.parents[1])]
    passed = CliRunner().invoke(app, [*arguments, "--sample", "2"])
    assert passed.exit_code == 0, passed.output
    assert "DIFFERS" not in passed.output
    assert "note:" not in passed.output
    assert "Trained again: 2 networks, 2 to the same bits.\nCompared again: 1 pairs of networks.\n" in passed.output
    assert "final weights (runs/ is not here)" in passed.output
    assert passed.output.endswith("No difference: verified\n")
    change_json(base / "claims.json", lambda claims: claims[0].update(title="Other"))
    failed = CliRunner().invoke(app, [*arguments, "--sample", "0"])
    assert failed.exit_code == 1
    assert re.search(r"DIFFERS claims.json: [\d,]+ bytes, the card says", failed.output)
    assert "DIFFERS claims.json: C1: title: 'Other', judged again" in failed.output
    assert "no network was trained again" in failed.output


# file, how it is altered, what finds it besides the card's checksum
ALTERED: list[tuple[str, Callable, str]] = [
    (
        "table.parquet",
        set_cell("network", "test_accuracy", 99.9),
        r"table.parquet: lenet/r.*: test_accuracy: 99.9, made again",
    ),
    (
        "table.parquet",
        set_cell("pair", "distance", 0.1),
        r"table.parquet: lenet/r.* and lenet/r.*: distance: 0.1, made again",
    ),
    ("table.parquet", set_cell("network", "density", 0.5), "density: 0.5, made again"),
    ("table.parquet", lambda table: table.drop(index=5, inplace=True), "is missing"),
    (
        "stages/lenet/c0/k40-stability.parquet",
        set_cell("pair", "angle", 1.0),
        "k40-stability.json: outputs: k40-stability.parquet: '.*', files and settings here give",
    ),
    ("curves.parquet", lambda curves: curves.__setitem__("error", 1.0), "is not what the stages' curves make together"),
    (
        "claims.json",
        lambda claims: claims[0].update(verdict="supported"),
        "claims.json: C1: verdict: 'supported', judged again 'not tested'",
    ),
    (PACK, flip, r"mask \('imp', 40, 2\): keeps 20,56\d of 50,200 weights, not the level's"),
    (PACK, swap, f"is not the one that {IMP} was trained with"),
    (
        PACK,
        lambda tensors: tensors["k40/weights/output.bias"].mul_(1.5),
        f"tickets.json: outputs: {PACK}: '.*', files and settings here give",
    ),
    (PACK, lambda tensors: tensors.pop("mask/imp/k40/L1"), r"\('imp', 40, 1\): is missing"),
    (
        "networks.json",
        lambda networks: networks[IMP].update(sha256="0" * 64),
        f"outputs: {IMP}: '.*', files and settings here give '0000",
    ),
    (
        "networks.json",
        lambda networks: networks[IMP].update(test_accuracy=99.0),
        f"table.parquet: {IMP}: test_accuracy: .*, made again 99.0",
    ),
    (
        "networks.json",
        lambda networks: networks[IMP].update(key="0" * 64),
        f"networks.json: {IMP}: key: '0+', the plan says",
    ),
    ("networks.json", lambda networks: networks.pop(IMP), f"networks.json: {IMP}: is missing"),
    (
        "stages/lenet/c0/dense.json",
        lambda record: record.update(seconds=1.0),
        r"provenance.json: stages: lenet/c0/dense: seconds: [\d.]+, made again 1.0",
    ),
    ("provenance.json", lambda facts: facts.update(code_revision="f" * 40), "card.json: code: revision"),
]


@pytest.mark.parametrize(("name", "change", "message"), ALTERED, ids=[f"{one[0]}-{i}" for i, one in enumerate(ALTERED)])
def test_what_is_altered_is_found_even_if_the_card_is_made_to_match(pulled, name, change, message):
    alter = {".json": change_json, ".parquet": change_table, ".safetensors": change_pack}[Path(name).suffix]
    alter(pulled / name, change)
    assert any(line.startswith(name) and "the card" in line for line in files(opened(pulled)))
    list_again(pulled, name)
    lines = differences(pulled)
    assert not any("its checksum is not the card's" in line for line in lines)
    assert any(re.search(message, line) for line in lines), lines


def test_files_missing_added_or_out_of_place_are_found(pulled):
    (pulled / "report" / "figures" / "more.svg").write_text("<svg/>")
    (pulled / PACK).unlink()
    lines = differences(pulled)
    assert "report/figures/more.svg: is not on the card" in lines
    assert f"{PACK}: is on the card and missing here" in lines
    assert any("r1.safetensors: missing" in line for line in lines)
    (pulled / "extra.json").write_text("{}")
    with pytest.raises(HarnessError, match="no file of a run is called that"):
        opened(pulled)


def test_a_pack_that_does_not_fit_the_network_is_a_difference_and_no_traceback(pulled, tmp_path):
    change_pack(pulled / PACK, lambda tensors: tensors.update({"k40/weights/output.bias": torch.zeros(3)}))
    expected = "weights/output.bias of step 40: has another shape or type than the network's"
    assert f"{PACK}: {expected}" in differences(pulled)
    shared = opened(pulled)
    runs = {run.id: run for run in shared.runs()}
    with pytest.raises(HarnessError, match=expected):
        retrain(shared, runs[IMP], tmp_path / "one")
    change_json(pulled / "networks.json", lambda networks: networks[f"{DENSE}.snapshots"]["parts"].pop("k40"))
    with pytest.raises(HarnessError, match="has no checksum of step 40"):
        retrain(opened(pulled), runs[IMP], tmp_path / "two")


def test_a_page_that_tells_something_else_is_found(pulled):
    page = pulled / "report" / "index.html"
    page.write_text(page.read_text().replace("The pipeline works", "All claims are supported", 1))
    twin = pulled / "report" / "report.md"
    twin.write_text(twin.read_text().replace("The pipeline works", "All claims are supported"))
    figure = next((pulled / "report" / "figures").glob("*.svg"))
    figure.write_text(figure.read_text().replace("<path", "<path opacity='0'", 1))
    names = [path.relative_to(pulled).as_posix() for path in (page, twin, figure)]
    list_again(pulled, *names)
    stream = io.StringIO()
    findings = verify(opened(pulled), 0, 0, Console(file=stream, width=200))
    for name in names:
        assert any(line.startswith(f"{name}: is not what its tables give") for line in findings.differences)
        assert f"DIFFERS {name}: is not what its tables give" in stream.getvalue()


def test_on_another_machine_figures_may_be_drawn_otherwise_but_are_in_their_places(pulled, monkeypatch):
    monkeypatch.setattr(SharedRun, "same_machine", False)
    path = pulled / "report" / "index.html"
    page = path.read_text()
    first, second = list(DRAWN.finditer(page))[:2]
    path.write_text(page.replace('style="fill: #fdfdfb"', 'style="fill: #fefefe"'))
    assert not [*built_again(opened(pulled)), *drawings(opened(pulled))]
    for other in (
        page[: first.start()] + page[first.end() :],
        page[: first.start()] + second[0] + page[first.start() :],
        page[: first.start()] + page[first.end() : second.end()] + first[0] + page[second.end() :],
    ):
        path.write_text(other)
        assert [line.partition(":")[0] for line in built_again(opened(pulled))] == ["report/index.html"]
    path.write_text(page.replace("</svg>", "<script>x()</script></svg>"))
    assert any("element 'script' is no part of a drawing" in line for line in drawings(opened(pulled)))


def test_a_card_of_another_run_is_refused(pulled):
    with pytest.raises(HarnessError, match=r"card\.json: scale: 'tiny': this is not the scale asked for \(mini\)"):
        open_run(Folders(pulled), PAPER, "mini")
    change_json(pulled / "networks.json", lambda networks: networks[IMP].update(status="<b>"))
    with pytest.raises(HarnessError, match=r"networks\.json: .*status"):
        differences(pulled)


def test_a_changed_spec_is_taken_from_the_runs_own_copy_and_changed_code_is_said_first(
    finished, pulled, tmp_path, monkeypatch
):
    root = tmp_path / "newer"
    shutil.copytree(finished.root / "papers", root / "papers")
    scale = root / "papers" / PAPER / "scales" / f"{SCALE}.yaml"
    scale.write_text(scale.read_text().replace("replicates: 2", "replicates: 3"))
    monkeypatch.setenv("HARNESS_ROOT", str(root))
    shared = opened(pulled)
    assert shared.spec.scale.experiments["lenet"].replicates == 2
    assert "scales/tiny.yaml differs" in shared.notes[-1]
    assert not differences(pulled)
    change_json(pulled / "card.json", lambda card: card["code"]["digests"].update(training="0" * 64))
    assert opened(pulled).notes[0] == "the code that trains has changed since: differences may come from that"
    shutil.rmtree(pulled / "report" / "workflow")
    with pytest.raises(HarnessError, match="the run keeps no copy"):
        opened(pulled)


def test_every_kind_of_network_trains_again_to_the_same_bits_from_what_a_reader_pulls(pulled, tmp_path):
    shared = opened(pulled)
    runs = [run for run in shared.runs() if run.replicate == 1]
    assert len(runs) == 9
    for run in runs:
        outcome = retrain(shared, run, tmp_path / "scratch")
        assert outcome.bits, (run.id, outcome.differences, outcome.words)
        assert outcome.exact
        assert not outcome.differences


def test_networks_that_lie_with_the_run_are_checked_and_are_the_inputs(finished, pulled, tmp_path):
    shutil.copytree(finished.results / "runs", pulled / "runs")
    shutil.rmtree(pulled / "tickets")  # not needed then
    shared = opened(pulled)
    run = next(run for run in shared.runs() if run.id == IMP)
    assert retrain(shared, run, tmp_path / "scratch").bits
    path = pulled / "runs" / f"{IMP}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert list(packs.stored(shared)) == [f"runs/{IMP}.safetensors: its checksum is not that of networks.json"]


def test_a_result_that_all_files_agree_on_does_not_train_again(pulled, tmp_path):
    """The accuracy of one network raised in the table, networks.json and the card: only training it again tells."""

    def raise_it(table: pd.DataFrame) -> None:
        table.loc[(table["row"] == "network") & (table["run"] == DENSE), "test_accuracy"] = 99.99

    change_table(pulled / "table.parquet", raise_it)
    change_json(pulled / "networks.json", lambda networks: networks[DENSE].update(test_accuracy=99.99))
    list_again(pulled, "table.parquet", "networks.json")
    assert not differences(pulled)
    shared = opened(pulled)
    outcome = retrain(shared, next(run for run in shared.runs() if run.id == DENSE), tmp_path / "scratch")
    assert outcome.differences == ["other bits on the same kind of machine with the same code: test_accuracy"]


def test_rewound_weights_that_all_files_agree_on_are_not_those_of_the_dense_network(pulled, tmp_path):
    change_pack(pulled / PACK, lambda tensors: tensors["k40/weights/output.bias"].mul_(1.5))
    record = "stages/lenet/c0/tickets.json"
    record_again(pulled, "lenet/c0/tickets", PACK)
    change_json(
        pulled / "provenance.json",
        lambda facts: [
            stage["outputs"].update({PACK: file_sha256(pulled / PACK)})
            for stage in facts["stages"]
            if stage["stage"] == "lenet/c0/tickets"
        ],
    )
    list_again(pulled, PACK, record, "provenance.json")
    assert not differences(pulled)
    shared = opened(pulled)
    runs = {run.id: run for run in shared.runs()}
    dense = retrain(shared, runs[DENSE], tmp_path / "one")
    assert dense.differences == [f"{PACK}: weights/output.bias of step 40 is not what the dense network had then"]
    ticket = retrain(shared, runs[IMP], tmp_path / "two")
    assert ticket.differences
    assert "other bits on the same kind of machine" in ticket.differences[0]


def test_without_the_kernels_networks_end_within_the_tolerance(finished, pulled, tmp_path):
    """PyTorch adds in another order: other last bits, which are allowed, as on another kind of machine."""
    shutil.copytree(finished.results / "runs", pulled / "runs")
    shared = opened(pulled)
    run = next(run for run in shared.runs() if run.id == IMP)
    with kernels.without():
        outcome = retrain(shared, run, tmp_path / "scratch")
    assert not outcome.bits
    assert not outcome.exact
    assert not outcome.differences
    assert "within tolerance: test accuracy" in outcome.words
    assert re.search(r"weights [\d.e-]+ apart", outcome.words)


def test_the_seed_chooses_the_networks_each_equally_often():
    names = [f"n{i}" for i in range(10)]
    assert choose(names, 3, 5) == choose(names[::-1], 3, 5)
    assert len({tuple(choose(names, 3, seed)) for seed in range(50)}) > 40
    counts = np.zeros(10)
    for seed in range(2000):
        counts[[int(name[1:]) for name in choose(names, 3, seed)]] += 1
    assert abs(counts - 600).max() < 4 * np.sqrt(2000 * 0.3 * 0.7)
    assert choose(names, 99, 0) == sorted(choose(names, 99, 0), key=choose(names, 10, 0).index)


def test_relative_distance_is_that_of_the_vectors():
    recorded = {"final/weights/a": torch.tensor([3.0, 4.0]), "mask/a": torch.ones(2)}
    tensors = {"final/weights/a": torch.tensor([3.0, 4.5])}
    assert relative_distance(tensors, recorded) == pytest.approx(0.1)
