"""`harness bench`: the arithmetic is counted right, the baseline is the same network, and a small run goes through."""

import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from harness.base.files import read_json
from harness.base.paths import checkout
from harness.bench import fixed, jobs, run, settings, show, workers
from harness.bench.measure import spreads, with_goals
from harness.bench.settings import Goal, Group, Row
from harness.cli import app as cli
from harness.estimate.arithmetic import step_work
from harness.networks import build, initialise, parameter_count, prunable_names
from harness.paper.models import Recipe

ADAM = Recipe(optimizer="adam", learning_rate=1.2e-3, batch_size=60, steps=100)
MOMENTUM = Recipe(optimizer="momentum", learning_rate=0.1, momentum=0.9, batch_size=128, steps=100)
SHAPES = {
    **{"lenet-300-100": (1, 28, 28), "resnet20": (3, 32, 32), "vgg19": (3, 32, 32)},
    **{"resnet20-1d": (1, 40), "resnet8-1d": (1, 40)},
}
DEVICES = ("cpu", "cuda")
SMALL = Group(
    "small",
    "LeNet on digits",
    "smoke",
    "lenet",
    (Row(1), Row(2, (Goal("ratio_to_straightforward", least=0.0), Goal("ratio_to_torch", least=1e9)))),
    evaluated=(20, 80),
    evaluated_here=50,
    samples=200,
    torch_engine=True,
    by_density=2,
    density_goals=((0.107, 1e9),),
)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.chdir(checkout())  # restored afterwards: a command changes to the checkout
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small(monkeypatch):
    """A bench of one small group, in this process and at once."""
    monkeypatch.setattr(settings, "GROUPS", (SMALL,))
    monkeypatch.setattr(settings, "MATRIX", 64)
    monkeypatch.setattr(settings, "COPIED", 1000)
    monkeypatch.setattr(settings, "LOADER_WORKERS", (0,))
    monkeypatch.setattr(run, "WORKERS", workers.Inline)
    monkeypatch.setattr(run, "FULL_SECONDS", 0.005)
    monkeypatch.setattr(run, "BUSY_SECONDS", 0.01)


@pytest.fixture
def straightforward():
    return jobs.import_straightforward(checkout())


def residual_multiply_adds(channels: int, length: int, widths: tuple[int, int, int], dims: int) -> tuple[int, int]:
    """Multiply-adds of ResNet-20 forward, of one sample, and those of its first layer."""
    positions = [(length // 2**stage) ** dims for stage in range(3)]
    first = channels * widths[0] * 3**dims * positions[0]
    total = first + widths[2] * 10
    for stage, (width, pixels) in enumerate(zip(widths, positions, strict=True)):
        before = widths[stage - 1] if stage else width
        total += (before * width + 5 * width * width) * 3**dims * pixels
        total += before * width * pixels if stage else 0
    return total, first


def test_lenets_step_is_counted_as_by_hand():
    work = step_work("lenet-300-100", (1, 28, 28), 10, ADAM)
    forward, first = 784 * 300 + 300 * 100 + 100 * 10, 784 * 300
    assert work.flops == 2 * 60 * (3 * forward - first)
    assert work.update_bytes == 4 * 7 * 266_610  # weight, gradient, two moments read; weight, two moments written


@pytest.mark.parametrize(("name", "widths", "dims"), [("resnet20", (16, 32, 64), 2), ("resnet20-1d", (8, 16, 32), 1)])
def test_residual_networks_are_counted_as_by_formula(name, widths, dims):
    shape = SHAPES[name]
    forward, first = residual_multiply_adds(shape[0], shape[1], widths, dims)
    work = step_work(name, shape, 10, MOMENTUM)
    assert work.flops == 2 * 128 * (3 * forward - first)
    assert work.update_bytes == 4 * 5 * parameter_count(build(name, 1, shape, 10))
    if name == "resnet20":
        assert forward == 40_813_184


def test_the_limit_adds_the_update_to_the_products():
    work = step_work("lenet-300-100", (1, 28, 28), 10, ADAM)
    assert work.seconds(work.flops, work.update_bytes) == 2.0


@pytest.mark.parametrize("name", SHAPES)
def test_the_straightforward_network_is_the_harnesss(name, straightforward):
    shape = SHAPES[name]
    network, reference = build(name, 1, shape, 10).eval(), straightforward.build(name, shape, 10).eval()
    assert sum(weight.numel() for weight in reference.parameters()) == parameter_count(network)
    initialise(network, [("t", 0)])
    values = {key: value[0] for key, value in network.state_dict().items()}
    for key, value in reference.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        tensor = values[key.replace("running_mean", "mean").replace("running_var", "variance")]
        value.copy_((tensor.T if "output" in key or "hidden" in key else tensor).reshape(value.shape))
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(reference(x), network(x[None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lenet-300-100", "resnet8-1d"])
def test_the_straightforward_training_masks_what_the_harness_prunes(name, straightforward):
    shape = SHAPES[name]
    x = np.zeros((20, *shape), np.uint8 if len(shape) == 3 else np.float32)
    y = np.arange(20) % 10
    training = straightforward.Training(name, x, y, optimizer="adam", learning_rate=0.01, batch_size=10, density=0.5)
    assert sorted(training.model.masks) == sorted(prunable_names(build(name, 1, shape, 10)))
    assert training.run(3) > 0
    training.model(torch.zeros(2, *shape))
    named = dict(training.model.network.named_parameters())
    for weight, mask in training.model.masks.items():
        assert not named[weight][mask == 0].any()
        assert named[weight][mask == 1].all()


def test_samples_are_augmented_one_by_one(straightforward):
    x = np.arange(4 * 3 * 8 * 8, dtype=np.uint8).reshape(4, 3, 8, 8)
    original, augmented = (straightforward.Images(x, np.arange(4), how) for how in ("none", "flip_crop"))
    torch.manual_seed(0)
    assert original[1][0].shape == augmented[1][0].shape == (3, 8, 8)
    assert torch.equal(original[1][0], original[1][0])
    assert not torch.equal(augmented[1][0], augmented[1][0])


@pytest.mark.parametrize(
    ("replicates", "cores", "expected"),
    [
        (1, 2, [(1, 1), (1, 2)]),
        (4, 2, [(1, 2), (2, 1)]),
        (4, 16, [(1, 16), (4, 4)]),
        (6, 1, [(1, 1)]),
    ],
)
def test_replicates_are_spread_over_the_cores(replicates, cores, expected):
    assert spreads(replicates, cores) == expected


def test_goals_are_met_missed_or_not_measured():
    goals = (Goal("ratio_to_torch", least=3), Goal("share_of_level", most=0.02), Goal("ratio_to_straightforward", 7))
    record = {"ratio_to_torch": 3.0, "share_of_level": 0.03, "ratio_to_straightforward": None}
    judged = with_goals(record, goals)
    assert [goal["met"] for goal in judged["goals"]] == [True, False, None]
    assert show.goals(judged)[0] == "≥ 3× torch, ≤ 2%, ≥ 7×"
    assert re.sub(r"\[.*?\]", "", show.goals(judged)[1]) == "yes, no, not measured"


@pytest.mark.usefixtures("small")
def test_a_bench_measures_shows_and_writes(tmp_path):
    result = CliRunner().invoke(
        cli.app, ["bench", "--only", "small", "--results", str(tmp_path), "--rounds", "2", "--cores", "1"]
    )
    assert result.exit_code == 0, result.exception
    written = read_json(tmp_path / "bench" / "bench.json")
    assert (written["rounds"], written["quick"]) == (2, False)
    assert written["hardware"]["cores"]
    assert {"torch", "torchvision", "pillow"} <= set(written["packages"])
    rows = [record for record in written["records"] if "measured" in record]
    names = [(row["what"], row["replicates"]) for row in rows]
    assert names == [("harness", 1), ("harness", 2), ("torch engine", 1), ("torch engine", 2), ("straightforward", 1)]
    for row in rows:
        assert row["steps_per_second"] == pytest.approx(max(candidate["steps_per_second"] for candidate in row["ways"]))
        assert all(len(candidate["rounds"]) == 2 for candidate in row["ways"])
        assert row["steps_per_second"] == pytest.approx(row["replicates"] * row["steps_per_second_each"])
        assert row["images_per_second"] == pytest.approx(row["batch_size"] * row["steps_per_second"])
        assert 0 < row["share_of_arithmetic"] < row["share_of_limit"]
    assert rows[1]["ratio_to_straightforward"] == pytest.approx(
        rows[1]["steps_per_second"] / rows[-1]["steps_per_second"]
    )
    assert [goal["met"] for goal in rows[1]["goals"]] == [True, False]
    by_density = [record for record in written["records"] if record["what"] == "density"]
    assert [record["density"] for record in by_density] == list(settings.DENSITIES)
    assert [goal["met"] for record in by_density for goal in record["goals"]] == [False]
    for record in by_density:
        assert record["ratio_to_dense"] == pytest.approx(record["steps_per_second"] / record["dense_steps_per_second"])
        assert record["share_of_arithmetic"] > 0
    (between,) = [record for record in written["records"] if record["what"] == "between levels"]
    assert 0 < between["share_of_level"] == pytest.approx(between["seconds"] / rows[1]["seconds_per_level"])
    assert "<svg" in (tmp_path / "bench" / "bench.svg").read_text()
    headings = [
        [column.header for column in show.tables([rows[0] | {"device": device}])[0].columns] for device in DEVICES
    ]
    assert [("limit" in heading, "memory" in heading) for heading in headings] == [(True, False), (False, True)]
    for word in ("LeNet on digits", "straightforward", "By the density of the masks", "Between two levels", "Gflop/s"):
        assert word in result.output


@pytest.mark.usefixtures("small")
def test_a_bench_that_is_stopped_keeps_the_groups_that_are_measured(tmp_path, monkeypatch):
    record = {"what": "matrix", "setting": "one"}

    def stopped(*_):
        yield [record]
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_measured", stopped)
    monkeypatch.setattr(run, "tables", lambda records: [])
    CliRunner().invoke(cli.app, ["bench", "--only", "small", "--results", str(tmp_path), "--rounds", "2"])
    assert read_json(tmp_path / "bench" / "bench.json")["records"] == [record]


@pytest.mark.usefixtures("small")
def test_without_the_straightforward_training_the_row_says_so(tmp_path, monkeypatch):
    shutil.copytree(checkout() / "papers", tmp_path / "papers")
    shutil.copy(checkout() / "params.yaml", tmp_path)
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    result = CliRunner().invoke(cli.app, ["bench", "--only", "small", "--rounds", "1", "--cores", "1"])
    assert re.search(r"straightforward +│ not measured", result.output), result.output
    row = read_json(tmp_path / "results" / "bench" / "bench.json")["records"][1]
    assert (row["ratio_to_straightforward"], row["goals"][0]["met"]) == (None, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "tpu"], "choose cpu or cuda"),
        (["--only", "alexnet"], "choose one of lenet, resnet20, mini, fixed"),
        pytest.param(
            ["--device", "cuda"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_what_cant_be_measured_is_one_line_and_status_1(options, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["harness", "bench", *options])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert re.fullmatch(rf"error: .*{words}.*\n", capsys.readouterr().err)


def stage(kind: str, seconds: float, training: float) -> dict[str, object]:
    return {"kind": kind, "seconds": seconds, "training_seconds": training, "threads": 1}


def test_a_finished_runs_time_is_accounted_for():
    stages = [stage("prepare", 10, 0), stage("dense", 100, 90), stage("levels", 50, 40), stage("stability", 20, 0)]
    record = fixed._run({"stages": stages, "hardware": {"cores": 2}, "wall_clock_seconds": 100.0})
    shares = [record[f"share_{part}"] for part in fixed.RUN_PARTS]
    assert shares == pytest.approx([0.65, 0.1, 0.1, 0.05, 0.1])
    assert record["jobs"] == 4


@pytest.mark.slow
def test_fixed_costs_of_a_scale(tmp_path):
    from harness.paper import load_spec
    from harness.results.folders import Folders

    finished = Folders(tmp_path / "smoke")
    finished.base.mkdir()
    provenance = {"stages": [stage("levels", 50, 40)], "hardware": {"cores": 2}, "wall_clock_seconds": 100.0}
    finished.provenance.write_text(json.dumps(provenance))
    spec = load_spec(checkout(), "stabilizing-lth", "smoke")
    records = fixed.fixed_costs(spec, checkout(), finished, tmp_path, 1, 2)
    assert all(record["seconds"] > 0 for record in records)
    assert records[3]["share_of_run"] == pytest.approx(records[3]["seconds"] / 100)
    console = Console(width=200, record=True, file=SimpleNamespace(write=str, flush=str))
    for table in show.tables(records):
        console.print(table)
    assert "training 20%" in console.export_text()


def add(left: float, right: float) -> SimpleNamespace:
    if right < 0:
        raise ValueError("less\nthan nothing")
    return SimpleNamespace(run=lambda steps: {"seconds": left + right * steps})


@pytest.mark.slow
def test_workers_run_together_and_fail_in_one_line():
    made = workers.Workers(2)
    try:
        made.make("sums", [partial(add, 1.0, 1.0), partial(add, 2.0, 3.0)])
        made.make("sum", [partial(add, 5.0, 0.0)])
        assert made.run("sums", 4) == {"seconds": 14.0}
        assert made.run("sum", 4) == {"seconds": 5.0}
        with pytest.raises(workers.HarnessError, match=r"^bench, bad: ValueError: less than nothing$"):
            made.make("bad", [partial(add, 0.0, -1.0)])
        with pytest.raises(workers.HarnessError, match="a process ended"):
            made.make("killed", [partial(add, 1.0, 1.0), partial(os._exit, 1)])
    finally:
        made.close()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_worker_that_does_not_answer_is_ended(monkeypatch):
    monkeypatch.setattr(workers, "SILENT_SECONDS", 5.0)
    made = workers.Workers(2)
    try:
        with pytest.raises(workers.HarnessError, match=r"^bench, slow: no answer$"):
            made.make("slow", [partial(add, 1.0, 1.0), partial(time.sleep, 300)])
    finally:
        made.close()
    assert multiprocessing.active_children() == []
