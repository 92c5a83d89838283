"""`harness plan` counts what would be run, and each rule hands its threads to `harness stage`."""

import re
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from harness import calibrate, cli
from harness.budget import judged, needs
from harness.paths import checkout
from harness.plan import all_runs, stages, steps_of
from harness.spec import load_spec

RULES = {
    match["name"]: match["body"]
    for path in sorted((Path(cli.__file__).parent / "workflow").glob("*.smk"))
    for match in re.finditer(r"^rule (?P<name>\w+):\n(?P<body>(?:[ \t]+.*\n|\n)*)", path.read_text(), re.MULTILINE)
}
WORKERS = ["branches", "dense", "levels", "orders", "prepare", "stability"]


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick(monkeypatch):
    """Nothing is timed: a step of a network takes 10 ms."""
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: calibrate.Timing(0.01, 60))


def number(text: str) -> int:
    return int(text.replace(",", ""))


def plan(*arguments: str, scale: str = "smoke") -> list[str]:
    result = CliRunner().invoke(cli.app, ["plan", "--scale", scale, "--results", "no-such-folder", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.mark.usefixtures("quick")
def test_the_plan_names_every_training_and_step_of_the_scale():
    spec = load_spec(checkout(), "stabilizing-lth", "smoke")
    runs = all_runs(spec)
    lines = plan("--cores", "3")
    found = [match for line in lines if (match := re.match(r"([\d,]+) trainings, ([\d,]+) steps, ", line))]
    assert len(found) == 1
    assert number(found[0][1]) == len(runs)
    assert number(found[0][2]) == sum(steps_of(run, spec.recipe(run.experiment).steps) for run in runs)
    assert "on 3 cores" in found[0].string
    for name in spec.scale.experiments:
        (row,) = [line for line in lines if name in re.split(r"[ │]+", line)]
        assert str(sum(run.experiment == name for run in runs)) in re.split(r"[ │]+", row)


@pytest.mark.usefixtures("quick")
def test_the_plan_lists_every_stage_once_in_order():
    spec = load_spec(checkout(), "stabilizing-lth", "smoke")
    listed = [line for line in plan("--stages") if re.fullmatch(r"[\w-]+/c\d+/\S+", line)]
    assert listed == [stage.name for stage in stages(spec)]


@pytest.mark.usefixtures("quick")
def test_the_plan_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_ROOT", str(checkout().resolve()))
    monkeypatch.chdir(tmp_path)
    plan()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_each_claim_has_its_trainings_time_and_share():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    lines = plan(scale="mini")
    rows = {cells[1]: cells for line in lines if len(cells := [part.strip() for part in line.split("│")]) == 8}
    assert set(rows) >= {claim.id for claim in spec.claims}
    # C6: five replicates of the dense ResNet-20, four levels of IMP at k 0, and at the fourth what it is compared with
    needed = needs(spec, "C6")
    assert number(rows["C6"][3]) == len(needed)
    total = sum(steps_of(run, spec.recipe(run.experiment).steps) for run in all_runs(spec))
    own = sum(steps_of(run, spec.recipe(run.experiment).steps) for run in needed)
    assert rows["C6"][5] == f"{own / total:.1%}"
    for claim in spec.claims:
        assert (rows[claim.id][4] == "not judged here") == ("mini" not in claim.scales)


@pytest.mark.usefixtures("quick")
def test_a_selection_is_planned_alone():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    lines = plan("--claims", "C7,C6", scale="mini")
    (total,) = [line for line in lines if re.match(r"[\d,]+ trainings, ", line)]
    assert number(total.split()[0]) == len(needs(spec, "C6") | needs(spec, "C7"))
    rows = {cells[1]: cells[-2] for line in lines if len(cells := [part.strip() for part in line.split("│")]) == 9}
    assert {name for name, mark in rows.items() if mark == "yes"} == {"C6", "C7"}


@pytest.mark.usefixtures("quick")
def test_a_budget_says_what_it_judges_and_what_it_leaves_out():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    (line,) = [line for line in plan("--budget", "1h", scale="mini") if line.startswith("--budget")]
    chosen, rest = line.split(". Left out: ")
    names = re.findall(r"C\d+", chosen)
    step = 0.01
    cost = sum(
        step * steps_of(run, spec.recipe(run.experiment).steps)
        for run in frozenset().union(*(needs(spec, name) for name in names))
    )
    assert 0 < cost <= 3600
    assert chosen.startswith(f"--budget 1h: {len(names)} of 20 claims, ")
    assert sorted(names + re.findall(r"C\d+", rest)) == sorted(judged(spec))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--claims", "C99"], r"--claims 'C99': C99: not in .*claims\.yaml; there are C1, C2, .*C33"),
        (["--claims", "C10"], r"--claims 'C10': C10: scale mini does not judge it; it judges C1, .*"),
        (["--budget", "20"], r"--budget '20': give a time above 0 with its unit, such as 20h, 90min or 2d"),
        (["--budget", "1h", "--claims", "C6"], r"--claims and --budget: give one of them"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "reproduce"])
def test_selections_that_mean_nothing_are_one_line(monkeypatch, tmp_path, capsys, command, options, message):
    monkeypatch.setattr(sys, "argv", ["harness", command, "--results", str(tmp_path / "none"), *options])
    monkeypatch.chdir(checkout())
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert not out
    assert re.fullmatch(f"error: {message}\n", err)
    assert not list(tmp_path.iterdir())


def test_a_scale_that_is_not_there_is_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["harness", "plan", "--scale", "huge"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert not out
    assert re.fullmatch(r"error: .*huge\.yaml: no such scale; choose one of .*smoke.*\n", err)


def test_no_cores_is_refused():
    assert CliRunner().invoke(cli.app, ["plan", "--scale", "smoke", "--cores", "0"]).exit_code == 2


def test_every_rule_is_known_and_calls_one_stage():
    assert sorted(RULES) == sorted([*WORKERS, "collect", "claims", "report"])
    for name, body in RULES.items():
        assert len(re.findall(r"harness stage \S+ \{params\.run\}", body)) == 1, name


@pytest.mark.parametrize("name", WORKERS)
def test_rules_that_train_or_compare_pass_the_threads_that_they_declare(name):
    body = RULES[name]
    assert re.search(r"^    threads: \S", body, re.MULTILINE)
    (call,) = re.findall(r'"(harness stage .*)"', body)
    assert call.split(">")[0].split() == [
        "harness",
        "stage",
        "{params.name}",
        "{params.run}",
        "--threads",
        "{threads}",
    ]


@pytest.mark.parametrize(("options", "expected"), [([], 1), (["--threads", "1"], 1), (["--threads", "4"], 4)])
def test_a_stage_runs_with_the_threads_that_its_rule_passes(monkeypatch, options, expected):
    monkeypatch.chdir(checkout())  # put back afterwards: a command works in the checkout
    seen = []
    monkeypatch.setattr("harness.workflow.stages.end_with_parent", lambda: None)
    monkeypatch.setattr("harness.workflow.stages.run_stage", lambda *arguments: seen.append(arguments))
    result = CliRunner().invoke(cli.app, ["stage", "lenet/c0/dense", "--scale", "smoke", "--results", "r", *options])
    assert result.exit_code == 0, result.output
    ((spec, folders, name, threads),) = seen
    assert (spec.scale_name, folders.base.resolve(), name, threads) == (
        "smoke",
        (checkout() / "r/smoke").resolve(),
        "lenet/c0/dense",
        expected,
    )


def test_a_stage_refuses_no_threads():
    assert CliRunner().invoke(cli.app, ["stage", "lenet/c0/dense", "--threads", "0"]).exit_code == 2
