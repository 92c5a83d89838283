"""`harness check` as a command: exit status, files, and what is run. The run itself is replaced by its results."""

import html
import json
import re
import shutil

import pytest
import typer
from typer.testing import CliRunner

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.check import regression
from harness.check.affected import selection
from harness.check.baseline import baseline_path, read_baseline, write_baseline
from harness.cli import check as commands
from harness.paper import load_spec
from harness.results.folders import Folders
from tests.check.results import calibration, claim, results, rows

PAPER = "stabilizing-lth"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with a mini baseline that supports C1 and C2."""
    shutil.copy(checkout() / "params.yaml", tmp_path)
    shutil.copytree(checkout() / "papers", tmp_path / "papers", ignore=shutil.ignore_patterns("baselines"))
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_baseline(baseline_path(tmp_path / "papers" / PAPER, "mini"), RESULTS)
    return tmp_path


RESULTS = results(claims={"C1": claim(), "C2": claim(), "C6": claim("inconclusive")})


class Run:
    """Stands for the run: records the requests, and returns these results."""

    def __init__(self, monkeypatch, now=RESULTS, error=None):
        self.requests, self.now, self.error = [], now, error
        monkeypatch.setattr(regression, "reproduce", self.reproduce)
        monkeypatch.setattr(regression, "measure", lambda spec, folders: self.now)

    def reproduce(self, root, request, console):
        assert request.results.name == ".check"  # never in the results themselves
        claims = request.claims.split(",") if request.claims else None
        assert request.every_replicate == bool(claims)
        self.requests.append((request.paper, request.scale, claims))
        if self.error:
            raise self.error


app = typer.Typer()
app.command()(commands.check)


def check(*arguments) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


FILES = ("--junit", "out/check.xml", "--summary", "out/check.md", "--badge", "out/check.json")


def test_nothing_changed(root, monkeypatch):
    run = Run(monkeypatch)
    status, output = check(*FILES)
    assert status == 0
    assert "No result" in output
    assert "Baseline: papers/stabilizing-lth/baselines/mini.json." in output
    assert run.requests == [(PAPER, "mini", ["C1", "C2"])]
    assert {path.name for path in (root / "out").iterdir()} == {"check.xml", "check.md", "check.json"}
    assert json.loads((root / "out/check.json").read_text())["message"] == "2 seen here"


def test_a_regression_is_1(root, monkeypatch):
    Run(monkeypatch, results(claims={**RESULTS.claims, "C2": claim("contradicted")}))
    status, output = check(*FILES)
    assert status == 1
    assert "Regression: 1 claim." in output
    assert "<failure" in (root / "out/check.xml").read_text()


@pytest.mark.parametrize("error", [HarnessError("the run did not finish"), RuntimeError("a mistake")])
def test_a_run_that_fails_is_2_and_leaves_no_earlier_result(root, monkeypatch, error):
    Run(monkeypatch)
    assert check(*FILES)[0] == 0
    Run(monkeypatch, error=error)
    status, output = check(*FILES)
    assert status == 2
    assert ("Traceback" in output) == isinstance(error, RuntimeError)
    for name in ("check.xml", "check.md"):
        assert str(error) in (root / "out" / name).read_text()
    assert json.loads((root / "out/check.json").read_text())["message"] == "unknown"


def test_ctrl_c_leaves_no_earlier_result(root, monkeypatch):
    Run(monkeypatch)
    assert check(*FILES)[0] == 0
    Run(monkeypatch, error=KeyboardInterrupt())
    assert check(*FILES)[0] == 130
    for name in ("check.xml", "check.md"):
        assert "stopped" in (root / "out" / name).read_text()
    assert json.loads((root / "out/check.json").read_text())["message"] == "unknown"


def test_a_baseline_that_was_altered_is_2_before_anything_runs(root, monkeypatch):
    run = Run(monkeypatch)
    path = baseline_path(root / "papers" / PAPER, "mini")
    path.write_text(path.read_text().replace('"supported"', '"inconclusive"', 1))
    status, output = check()
    assert status == 2
    assert "sha256: does not match the content" in output
    assert not run.requests


def edit_claims(root, old, new):
    """Replace text where it first stands in claims.yaml: here in a claim at the mini scale."""
    path = root / "papers" / PAPER / "claims.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_region_that_moves_after_results_exist_is_1_until_an_erratum_says_why(root, monkeypatch):
    Run(monkeypatch)
    edit_claims(root, "region: [1.0, null]", "region: [0.9, 9.0]")
    status, output = check(*FILES)
    assert status == 1
    assert "Regression: 1 region." in output
    text = (root / "out/check.xml").read_text()
    assert "region [1.0, null]" in text
    assert "region [0.9, 9.0]" in text
    digits = re.search(r"sha256: '([0-9a-f]{12})'", html.unescape(text))[1]
    erratum = f"errata: [{{date: 2026-12-01, scale: mini, sha256: '{digits}', reason: a sign was wrong}}]"
    edit_claims(root, "- id: C2\n", f"- id: C2\n  {erratum}\n")
    assert check(*FILES)[0] == 0
    assert "an erratum says why" in (root / "out/check.xml").read_text()
    edit_claims(root, "region: [0.9, 9.0]", "region: [0.8, 9.0]")  # another change is another erratum
    assert check()[0] == 1


def test_freezing_again_changes_nothing(root, monkeypatch):
    run = Run(monkeypatch)
    before = load_spec(root, PAPER, "mini").frozen
    edit_claims(root, "region: [1.0, null]", "region: [0.9, 9.0]")
    assert check("--freeze") == (0, f"papers/{PAPER}/frozen.yaml: 0 entries frozen; commit it\n")
    assert load_spec(root, PAPER, "mini").frozen == before
    assert not run.requests


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "no-such-branch"), "no such file or git revision"),
        (("--baseline=-n",), "give a file, a git revision or committed"),
        (("--scale", "smoke"), "missing; make it with"),
        (("--scale", "minni"), "no such scale"),
        (("--paper", "../etc"), "a name is lower-case letters"),
        (("--claims", "C99"), "C99: not in"),
        (("--claims", "C10"), "scale mini does not judge it"),
        (("--claims", "C1", "--write-baseline"), "--write-baseline: compares nothing; omit"),
        (("--freeze", "--write-baseline"), "compares nothing; omit"),
        (("--freeze", "--junit", "x.xml"), "--freeze: compares nothing; omit"),
    ],
)
def test_bad_input_is_2_and_one_line(root, monkeypatch, arguments, message):
    run = Run(monkeypatch)
    status, output = check(*arguments)
    assert status == 2
    assert output.startswith("error: ")
    assert message in output
    assert output.count("\n") == 1
    assert not run.requests


def test_claims_are_passed_on(root, monkeypatch):
    run = Run(monkeypatch, results(claims={"C2": claim()}))
    status, output = check("--claims", "C2")
    assert status == 0
    assert run.requests == [(PAPER, "mini", ["C2"])]
    assert "1 same" not in output.split("\n")[0] or "not compared" in output
    assert "Only what the selected claims need was run." in output


def test_write_baseline_writes_what_the_run_showed(root, monkeypatch):
    now = results(tables={"lenet": rows("new")})
    Run(monkeypatch, now)
    status, output = check("--write-baseline")
    assert status == 0
    assert "papers/stabilizing-lth/baselines/mini.json: 1 of 3 claims supported; commit it" in output
    assert read_baseline("committed", root / "papers" / PAPER, PAPER, "mini")[0] == now


@pytest.mark.parametrize("option", ["--write-baseline", "--freeze"])
def test_nothing_is_written_to_the_papers_of_an_installed_package(root, monkeypatch, option):
    run, folder = Run(monkeypatch), root / "papers" / PAPER
    monkeypatch.setattr(regression, "SHIPPED", root)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, output = check(option)
    assert status == 2
    assert output.startswith(f"error: {folder}: is the installed package's; copy it to papers/ here")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not run.requests


def test_only_supported_claims_are_run_where_that_saves_work_and_no_band_is_lost(root):
    spec, folders = load_spec(root, PAPER, "mini"), Folders(root / "results" / PAPER / "mini")
    bands = {
        f"{name}.{measure}": calibration(band[0], band)
        for name, setting in spec.scale.experiments.items()
        for measure, band in setting.bands.items()
        if measure != "data_order_distance"
    }
    everywhere = {name: claim() for name in ("C1", "C8", "C9", "C16")}
    assert selection(spec, folders, results(claims=everywhere, calibration=bands), "") == list(everywhere)
    assert selection(spec, folders, results(claims={"C1": claim()}, calibration=bands), "") is None
    copies = bands | {"resnet20-standard.data_order_distance": calibration(34.0, (31.0, 38.0))}
    assert selection(spec, folders, results(claims=everywhere, calibration=copies), "") is None
    assert selection(spec, folders, results(claims={"C1": claim()}, calibration={}), "") == ["C1"]
    assert selection(spec, folders, results(claims={"C1": claim("inconclusive")}), "") is None
    assert selection(spec, folders, results(), "C6,C1") == ["C1", "C6"]
