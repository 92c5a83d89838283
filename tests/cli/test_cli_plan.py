"""`harness plan` counts what would be run, and each rule hands its threads to `harness stage`."""

import json
import os
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from harness.base.paths import checkout
from harness.base.words import duration
from harness.claims.power import power
from harness.cli import app as cli
from harness.estimate import cards
from harness.estimate import timing as calibrate
from harness.estimate.budget import together
from harness.estimate.schedule import START_SECONDS
from harness.estimate.timing import costs
from harness.paper import load_spec
from harness.plan.courses import steps_of
from harness.plan.kinds import KINDS
from harness.plan.needs import judged, needs
from harness.plan.runs import all_runs, stages
from harness.results.code import PACKAGE
from harness.results.folders import Folders
from harness.workflow.engine import failures

SOURCE = (PACKAGE / "workflow" / "train.smk").read_text()
RULES = {
    match["name"]: match["body"]
    for path in sorted((PACKAGE / "workflow").glob("*.smk"))
    for match in re.finditer(
        r"^(?:rule|use rule \w+ as) (?P<name>\w+)(?: with)?:\n(?P<body>(?:[ \t]+.*\n|\n)*)",
        path.read_text(),
        re.MULTILINE,
    )
}
WORKERS = ["branches", "dense", "levels", "orders", "prepare", "stability", "tickets"]


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
    assert number(found[0][2]) == sum(steps_of(spec, run) for run in runs)
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
    rows = claim_rows(lines)
    assert set(rows) >= {claim.id for claim in spec.claims}
    # C6: five replicates of the dense ResNet-20, four levels of IMP at k 0, and at the fourth what it is compared with
    needed = needs(spec, "C6")
    assert number(rows["C6"][3]) == len(needed)
    total = sum(steps_of(spec, run) for run in all_runs(spec))
    own = sum(steps_of(spec, run) for run in needed)
    assert rows["C6"][5] == f"{own / total:.1%}"
    replicates = {name: setting.replicates for name, setting in spec.scale.experiments.items()}
    found = {c.id: power(c.scales["mini"], replicates, spec.published) for c in spec.claims if "mini" in c.scales}
    assert rows["C2"][7] == f"{found['C2'].share:.0%}" == "100%"
    assert rows["C22"][7] == "not known"  # signs alone: the paper gives no numbers
    for claim in spec.claims:
        assert (rows[claim.id][4] == "not judged here") == ("mini" not in claim.scales)


def claim_rows(lines: list[str]) -> dict[str, list[str]]:
    return {cells[1]: cells for line in lines if len(cells := [part.strip() for part in line.split("│")]) == 9}


def test_a_selection_is_planned_alone_and_nothing_else_is_timed(monkeypatch):
    timed = []
    timing = calibrate.Timing(0.01, 60)
    monkeypatch.setattr(calibrate, "step_seconds", lambda _, name, *__: timed.append(name) or timing)
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    lines = plan("--claims", "C7,C6", scale="mini")
    assert timed == ["resnet20-standard"]
    (total,) = [line for line in lines if re.match(r"[\d,]+ trainings, ", line)]
    assert number(total.split()[0]) == len(needs(spec, "C6") | needs(spec, "C7"))
    assert {name for name in claim_rows(lines) if name.startswith("C")} == {"C6", "C7"}
    assert not any("more for figures" in line for line in lines)


@pytest.mark.usefixtures("quick")
def test_a_budget_says_what_it_judges_and_what_it_leaves_out_and_what_it_counts():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    lines = plan("--budget", "1h", scale="mini")
    (line,) = [line for line in lines if line.startswith("--budget")]
    chosen, rest = line.split(". Left out: ")
    names = re.findall(r"[CS]\d+", chosen)
    needed = together({name: needs(spec, name) for name in names}, names)
    cost = sum(0.01 * steps_of(spec, run) for run in needed)
    assert 0 < cost <= 3600
    assert chosen.startswith(f"--budget 1h: {len(names)} of 21 claims, ")
    assert sorted(names + re.findall(r"[CS]\d+", rest)) == sorted(judged(spec))
    assert set(claim_rows(lines)) >= set(names)
    (covers,) = [line for line in lines if line.startswith("The budget is for training and comparing")]
    assert "not for getting data sets ready. It counts core time" in covers


def test_comparing_has_its_column_and_its_part_of_the_total(monkeypatch):
    monkeypatch.setattr(calibrate, "step_seconds", lambda *_: calibrate.Timing(0.01, 60, 0.001))
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    found = costs(spec)
    lines = plan("--cores", "1", scale="mini")
    (total,) = [line for line in lines if re.match(r"[\d,]+ trainings, ", line)]
    training, comparing = sum(cost.seconds for cost in found), sum(cost.comparing for cost in found)
    assert comparing > 0
    assert f"{duration(training)} of core time training, {duration(comparing)} comparing" in total
    starts = (len(stages(spec)) + 2 + 4) * START_SECONDS  # two data sets; table, verdicts, page and card
    assert f"about {duration(training + comparing + starts)} on 1 core like" in total
    for cost in found:
        (row,) = [line for line in lines if line.startswith(f"│ {cost.experiment} ") and "│" in line]
        assert duration(cost.comparing) in [part.strip() for part in row.split("│")]


@pytest.mark.usefixtures("quick")
def test_the_plan_says_what_claims_and_what_figures_need():
    spec = load_spec(checkout(), "stabilizing-lth", "mini")
    (line,) = [line for line in plan(scale="mini") if line.startswith("Reuse: ")]
    needed = {name: needs(spec, name) for name in judged(spec)}
    every, alone = all_runs(spec), together(needed, needed)
    assert f"claims alone: {len(alone):,} trainings ({sum(map(len, needed.values())):,} if each claim were" in line
    rest = set(every) - alone
    seconds = sum(0.01 * steps_of(spec, run) for run in rest)
    assert (
        f"{len(rest):,} more for figures and for replicates that no claim asks for, {duration(seconds)} of core time"
        in line
    )
    assert f"{len(every):,} to train" in line


@pytest.mark.usefixtures("quick")
def test_the_plan_says_what_data_sets_take_of_the_disk(monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    lines = plan(scale="paper")
    assert [line for line in lines if line.startswith("Data set")] == [
        "Data set mnist-0-to-1: 12 MB of archives and 56 MB once converted",
        "Data set cifar10: 170 MB of archives and 185 MB once converted",
        "Data set imagenet: 155 GB of archives and 349 GB once converted",
        "Data set imagenet-299: the archives of imagenet and 623 GB once converted",
    ]
    rough = [line for line in lines if line.startswith("Rough estimates")]
    assert len(rough) == 1  # 60 samples were timed, of batches of 128 and more
    assert "resnet20-standard, resnet20-low" in rough[0]
    assert "--budget that includes these can be far off" in rough[0]


@pytest.mark.usefixtures("quick")
def test_a_scale_that_needs_gpus_is_told_in_gpu_time_where_there_is_none(monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    work = SimpleNamespace(flops=int(67e9), update_bytes=0, all_bytes=1)  # a millisecond of an H100 in float32
    monkeypatch.setattr(cards, "step_work", lambda *_: work)
    for name, card, factor in (("h100", "H100 SXM", 1), ("a100", "A100 SXM", 67 / 19.5)):
        lines = plan("--claims", "C2", "--card", name, scale="paper")
        (total,) = [line for line in lines if " trainings, " in line and "on one" in line]
        steps = number(re.search(r"([\d,]+) steps", total)[1])
        training = duration(0.001 * factor * steps)
        assert f" on one {card}: {training} of GPU time training" in total, total
        assert "by its published rates, as if every operation went to memory; " in total
        assert "core" not in total
    result = CliRunner().invoke(cli.app, ["plan", "--scale", "paper", "--card", "tpu"])
    assert "--card 'tpu': choose one of h100, a100, 4090" in str(result.exception)
    (total,) = [line for line in plan(scale="paper") if " trainings, " in line and "on one" in line]
    assert "on one H100 SXM" in total
    for options, scale in (([], "mini"), (["--claims", "C2"], "paper")):
        (total,) = [line for line in plan(*options, scale=scale) if " trainings, " in line and " core" in line]
        assert "H100" not in total


def test_a_step_takes_what_its_products_or_its_memory_take(monkeypatch):
    spec = load_spec(checkout(), "stabilizing-lth", "paper")
    forward, first = 784 * 300 + 300 * 100 + 100 * 10, 784 * 300
    seconds, each = cards.step_on(cards.Card("", {"float32": 1e9}, 1e30), spec, "lenet")
    assert seconds == 2 * 60 * (3 * forward - first) / 1e9
    assert each == seconds / 180
    seconds, _ = cards.step_on(cards.Card("", {"float32": 1e30}, 1e9), spec, "lenet")
    least = 4 * (7 * 266_610 + 3 * 266_200 + 3 * 60 * (784 + 300 + 100))  # update, products' weights, their inputs
    assert least < seconds * 1e9 < 3 * least


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--claims", "C99"], r"--claims 'C99': C99: not in .*claims\.yaml; there are C1, C2, .*C33, S1"),
        (["--claims", "C10"], r"--claims 'C10': C10: scale mini does not judge it; it judges C1, .*"),
        (["--budget", "20"], r"--budget '20': give a time above 0 with its unit, such as 20h, 90min or 2d"),
        (["--budget", "1h", "--claims", "C6"], r"--claims and --budget: give only one of them"),
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


def test_every_kind_of_stage_has_a_rule_that_calls_it():
    assert sorted(RULES) == sorted(KINDS)
    own = {"prepare", "dense", "collect"}  # the rules that others are made from
    for name in own:
        assert re.search(r"^    shell:\n        STAGE$", RULES[name], re.MULTILINE), name
        assert re.search(r"^        digest=\S", RULES[name], re.MULTILINE), name
        assert re.search(r"^        name=\S", RULES[name], re.MULTILINE), name


def test_every_rule_passes_the_threads_that_it_declares():
    for name, kind in KINDS.items():
        declared = rf'JOBS\["{name}"\]' if kind.whole else "JOB"
        inherits = "threads:" not in RULES[name] and "use rule dense as" in SOURCE
        assert inherits or re.search(rf"^    threads: {declared}\.threads$", RULES[name], re.MULTILINE), name
    (call,) = re.findall(r'^STAGE = "(harness stage .*?) >', (checkout() / "Snakefile").read_text(), re.MULTILINE)
    options = ["--digest", "{params.digest}", "--threads", "{threads}"]
    assert call.split() == ["harness", "stage", "{params.name}", "{params.run}", *options]


@pytest.mark.parametrize(("options", "expected"), [([], 1), (["--threads", "1"], 1), (["--threads", "4"], 4)])
def test_a_stage_runs_with_the_threads_that_its_rule_passes(monkeypatch, options, expected):
    monkeypatch.chdir(checkout())  # put back afterwards: a command works in the checkout
    seen = []
    monkeypatch.setattr("harness.workflow.run_stage.end_with_parent", lambda: None)
    monkeypatch.setattr("harness.workflow.run_stage.run_stage", lambda *arguments: seen.append(arguments))
    result = CliRunner().invoke(cli.app, ["stage", "lenet/c0/dense", "--scale", "smoke", "--results", "r", *options])
    assert result.exit_code == 0, result.output
    ((spec, folders, name, threads, _),) = seen
    assert (spec.scale_name, folders.base.resolve(), name, threads) == (
        "smoke",
        (checkout() / "r/stabilizing-lth/smoke").resolve(),
        "lenet/c0/dense",
        expected,
    )


@pytest.mark.parametrize(("stage", "expected"), [("lenet/c0/dense", "3"), ("collect", None)])
def test_a_stage_that_uses_a_gpu_takes_one_by_id_before_it_starts(monkeypatch, tmp_path, stage, expected):
    monkeypatch.chdir(checkout())
    for name, value in (("HARNESS_GPUS", "3"), ("HARNESS_GPU_LOCKS", str(tmp_path)), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)  # the last one so that it is put back afterwards
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("harness.base.devices._held", [])
    monkeypatch.setenv("HARNESS_DEVICE", "cuda")
    seen = []
    monkeypatch.setattr("harness.workflow.run_stage.end_with_parent", lambda: None)
    monkeypatch.setattr(
        "harness.workflow.run_stage.run_stage", lambda *_: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
    )
    result = CliRunner().invoke(cli.app, ["stage", stage, "--scale", "smoke", "--results", "r"])
    assert result.exit_code == 0, result.output
    assert seen == [expected]


def test_a_stage_refuses_no_threads():
    assert CliRunner().invoke(cli.app, ["stage", "lenet/c0/dense", "--threads", "0"]).exit_code == 2


def test_the_checkout_is_found_from_a_folder_in_it(monkeypatch, tmp_path):
    monkeypatch.delenv("HARNESS_ROOT", raising=False)
    (tmp_path / "papers" / "mine").mkdir(parents=True)
    (tmp_path / "papers" / "mine" / "paper.yaml").touch()
    (tmp_path / "results" / "mini").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "results" / "mini")
    assert checkout().resolve() == tmp_path.resolve()


def test_why_the_workflow_refused_is_told(tmp_path):
    folders = Folders(tmp_path)
    folders.logs.mkdir()
    said = (
        'Using a profile\nHarnessError in file "Snakefile", line 37:\nno image: give one\n  File "Snakefile", line 37\n'
    )
    (folders.logs / "workflow.log").write_text(said)
    assert failures(folders, 0) == ["no image: give one"]


def test_json_has_what_the_tables_say(tmp_path):
    command = ["plan", "--scale", "smoke", "--json", "--stages", "--cores", "3", "--results", str(tmp_path)]
    shown = CliRunner().invoke(cli.app, command)
    assert shown.exit_code == 0, shown.output
    content, spec = json.loads(shown.stdout), load_spec(checkout(), "stabilizing-lth", "smoke")
    networks = {entry["experiment"]: entry["networks"] for entry in content["experiments"]}
    assert sum(networks.values()) == len(all_runs(spec))
    assert set(networks) == set(spec.scale.experiments)
    assert content["stages"] == [stage.name for stage in stages(spec)]
    assert (content["unit"], content["cores"], content["claims"]) == ("core", 3, {})
    longest = max(entry["seconds"] + entry["comparing"] for entry in content["experiments"])
    assert 0 < content["wall_clock_seconds"] < 10 * longest + 3600
