"""`harness compare` from outside: what it prints, the page it leaves, what it refuses, revisions through DVC."""

import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.claims.document import write_claims
from harness.cli.compare import compare as command
from harness.compare.differences import compare, show, write_page
from harness.compare.read import read_run
from harness.paper.claims import LEFT_OUT
from harness.paper.columns import REAL, TABLE_COLUMNS, TEXT, WHOLE
from tests.report import synthetic
from tests.report.synthetic.run import make

KINDS = {**dict.fromkeys(TEXT, "object"), **dict.fromkeys(WHOLE, "int64"), **dict.fromkeys(REAL, "float64")}


def write_run(folder: Path, seed: int = 0, change=None, paper="stabilizing-lth", scale="mini") -> Path:
    """A synthetic finished run with the files that a comparison reads. `change` alters its table in place."""
    table, curves = make(seed, 4)
    table = table.reindex(columns=TABLE_COLUMNS).fillna({"steps": 0}).astype(KINDS)
    if change is not None:
        change(table)
    folder.mkdir(parents=True)
    claims = synthetic.claims(table)
    table = table[table["experiment"] == "lenet"]
    table.to_parquet(folder / "table.parquet", index=False)
    curves.to_parquet(folder / "curves.parquet", index=False)
    provenance = {"paper": paper, "scale": scale, "code_revision": "0123456789abcdef", "tree_clean": True}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    write_claims(folder / "claims.json", claims)
    return folder


def worse(table: pd.DataFrame) -> None:
    """LeNet's tickets lose three points: the first claim fails."""
    hit = (table["experiment"] == "lenet") & (table["branch"] == "imp") & (table["row"] == "network")
    table.loc[hit, "test_accuracy"] -= 3.0


def read(folder: Path):
    return read_run(str(folder), checkout(), Path("results"), "stabilizing-lth", "mini")


def run_command(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, HarnessError):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("runs")
    return {"a": write_run(base / "a"), "same": write_run(base / "same"), "b": write_run(base / "b", 0, worse)}


def test_changed_verdicts_and_differences_are_shown_and_drawn(runs, tmp_path):
    status, out = run_command(str(runs["a"]), str(runs["b"]), "--out", str(tmp_path))
    assert status == 0
    before, after = (
        {claim["id"]: claim["verdict"] for claim in json.loads((runs[name] / "claims.json").read_text())}
        for name in "ab"
    )
    changed = [name for name in before if before[name] != after[name]]
    assert "C1" in changed
    noun = "verdict" if len(changed) == 1 else "verdicts"
    assert f"33 claims in both runs: {len(changed)} {noun} changed" in out
    row = next(line for line in out.splitlines() if line.startswith(" C1"))
    assert row.index("supported") < row.index("contradicted")
    assert len(re.findall(r"\[[^\]]+\]", row)) == 2
    assert "code 0123456789" in out
    assert "exceed replicate noise (Holm over all cells, 5%)" in out
    assert re.search(r"lenet +IMP +20 +10\.7% +test accuracy .* −3(\.00)? points", out)
    assert "random prune" not in out
    page = (tmp_path / "compare.html").read_text()
    assert "C1" in page
    assert page.count("<svg") == 5
    assert not re.search(r"(?:src|href)=.(?!#)", page)
    assert "beyond noise" in page


def test_equal_runs_are_equal_in_one_line(runs):
    stream = io.StringIO()
    show(compare(read(runs["a"]), read(runs["same"])), Console(file=stream, width=200))
    out = stream.getvalue()
    rows = len(pd.read_parquet(runs["a"] / "table.parquet"))
    assert f"The tables are bit-identical except for times: {rows} rows; the curves too" in out
    assert "no verdicts changed" in out
    assert "cells compared" not in out


def test_runs_of_different_papers_are_refused(runs, tmp_path):
    other = read(write_run(tmp_path / "other", paper="linear-mode-connectivity"))
    with pytest.raises(HarnessError, match="different papers"):
        compare(read(runs["a"]), other)


def test_different_scales_are_compared_with_a_warning_where_both_judge(runs, tmp_path):
    b = write_run(tmp_path / "b", scale="smoke")
    claims = json.loads((b / "claims.json").read_text())
    claims[0] |= {"verdict": "not tested"}
    claims[1] |= {"verdict": "contradicted"}
    (b / "claims.json").write_text(json.dumps(claims))
    comparison = compare(read(runs["a"]), read(b))
    judged = sum(claim["verdict"] != "not tested" for claim in claims)
    assert comparison.claims == judged
    assert [change.id for change in comparison.changes] == [claims[1]["id"]]
    assert "different scales (mini, smoke)" in comparison.warnings[0]


def test_a_results_folder_holds_the_run_of_the_scale(runs, tmp_path):
    shutil.copytree(runs["a"], tmp_path / "stabilizing-lth" / "mini")
    assert read(tmp_path).scale == "mini"
    with pytest.raises(HarnessError, match="neither a run's folder nor one that contains stabilizing-lth/smoke/"):
        read_run(str(tmp_path), checkout(), Path("results"), "stabilizing-lth", "smoke")


@pytest.fixture
def published(runs, tmp_path, monkeypatch) -> Path:
    """A checkout whose reference of the mini scale is a run."""
    shutil.copytree(checkout() / "papers", tmp_path / "checkout/papers")
    shutil.copytree(runs["a"], tmp_path / "checkout/reference/stabilizing-lth/mini")
    (tmp_path / "checkout/reference/stabilizing-lth/mini/card.json").write_text("{}")
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path / "checkout"))
    return tmp_path / "checkout"


@pytest.mark.parametrize("first", [True, False])
def test_a_run_is_held_against_the_reference_of_its_paper_and_scale(runs, published, tmp_path, first):
    (tmp_path / "reference").mkdir()  # a folder of that name is none
    names = ["reference", str(runs["b"])] if first else [str(runs["b"]), "reference"]
    _, out = run_command(*names, "--paper", "stabilizing-lth", "--scale", "paper", "--out", str(tmp_path))
    assert f"{'A' if first else 'B'}  reference: stabilizing-lth at scale mini, code 0123456789" in out
    row = next(line for line in out.splitlines() if line.startswith(" C1"))
    assert (row.index("supported") < row.index("contradicted")) is first


def test_without_a_reference_one_line_says_which_there_are(published, tmp_path):
    other = write_run(tmp_path / "other", scale="wide")
    message = "reference: there is none of stabilizing-lth at scale wide; there is stabilizing-lth at mini"
    options = ("--paper", "stabilizing-lth", "--scale", "mini")
    with pytest.raises(HarnessError, match=message) as refused:
        run_command("reference", str(other), *options)
    assert "\n" not in str(refused.value)
    with pytest.raises(HarnessError, match="one of the two is a run of yours"):
        run_command("reference", "reference", *options)


def test_a_strangers_paper_is_no_path_to_a_reference(published, tmp_path):
    shutil.copytree(published / "reference/stabilizing-lth/mini", published / "elsewhere/mini")
    hostile = write_run(tmp_path / "hostile", paper="../elsewhere", scale="mini")
    with pytest.raises(HarnessError, match=r"there is none of \.\./elsewhere at scale mini"):
        run_command("reference", str(hostile), "--paper", "stabilizing-lth", "--scale", "mini")


def test_claims_that_were_not_selected_are_none_of_a_runs(runs, tmp_path):
    b = Path(shutil.copytree(runs["a"], tmp_path / "b"))
    claims = json.loads((b / "claims.json").read_text())
    for claim in claims[3:]:
        claim |= {"verdict": "not tested", "reason": LEFT_OUT}
    (b / "claims.json").write_text(json.dumps(claims))
    comparison = compare(read(runs["a"]), read(b))
    assert (comparison.claims, comparison.changes) == (3, [])
    assert comparison.claims_in_one == [claim["id"] for claim in claims[3:]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base: (base / "claims.json").unlink(), "claims.json: missing"),
        (lambda base: (base / "claims.json").write_text("{"), "claims.json: not valid JSON"),
        (lambda base: (base / "provenance.json").write_text("{}"), "provenance.json: field paper is missing"),
        (lambda base: (base / "table.parquet").write_bytes(b"PAR1"), "table.parquet: can't be read"),
        (lambda base: _link(base / "table.parquet"), "table.parquet: not a regular file"),
        (lambda base: _retype(base / "table.parquet"), "table.parquet: column test_accuracy: text instead of real"),
        (lambda base: _twice(base / "table.parquet"), "table.parquet: run .*: is duplicated"),
    ],
)
def test_files_that_are_not_a_runs_are_refused_in_one_line(runs, tmp_path, spoil, message):
    base = shutil.copytree(runs["a"], tmp_path / "run")
    spoil(base)
    with pytest.raises(HarnessError, match=message) as refused:
        read(base)
    assert "\n" not in str(refused.value)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _retype(path: Path) -> None:
    table = pd.read_parquet(path)
    table.assign(test_accuracy=table["test_accuracy"].astype(str)).to_parquet(path)


def _twice(path: Path) -> None:
    table = pd.read_parquet(path)
    pd.concat([table, table.tail(1)]).to_parquet(path)


def test_labels_cannot_become_markup(runs, tmp_path):
    evil = "<script>alert(1)</script>[bold]"
    a, b = (
        replace(run, name=evil, table=run.table.assign(experiment=run.table["experiment"].replace("lenet", evil)))
        for run in (read(runs["a"]), read(runs["b"]))
    )
    comparison = compare(a, replace(b, claims=[claim.model_copy(update={"title": evil}) for claim in b.claims]))
    assert comparison.changes
    assert any(difference.cell.experiment == evil for difference in comparison.tables.exceeding)
    page = write_page(comparison, {}, tmp_path).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.slow
def test_revisions_are_read_through_dvc(runs, tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    (root / "papers").mkdir(parents=True)
    shutil.copy(checkout() / "params.yaml", root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("HARNESS_ROOT", str(root))

    def call(*command: str) -> None:
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    call("git", "init", "-q")
    call("git", "config", "user.email", "t@example.org")
    call("git", "config", "user.name", "t")
    dvc = (sys.executable, "-m", "dvc")
    call(*dvc, "init", "-q")
    folder = root / "results" / "stabilizing-lth" / "mini"
    for name, tag in (("a", "first"), ("b", "second")):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(runs[name], folder)
        call(*dvc, "add", "-q", folder.relative_to(root).as_posix())
        call("git", "add", "-A")
        call("git", "commit", "-qm", name)
        call("git", "tag", tag)
    shutil.rmtree(folder)

    status, out = run_command("first", "second")
    assert status == 0
    assert "A  first: stabilizing-lth at scale mini" in out
    assert re.search(r"C1 .*supported.*contradicted", out)
    assert (root / "results" / "compare" / "compare.html").exists()
    status, out = run_command("first", str(runs["a"]))
    assert "The tables are bit-identical" in out
    for arguments, message in (
        (("first", "nowhere"), "nowhere: neither a folder nor a revision of"),
        (("first", "second", "--scale", "smoke"), "first: has no results/stabilizing-lth/smoke/claims.json"),
    ):
        with pytest.raises(HarnessError, match=message) as refused:
            run_command(*arguments)
        assert "\n" not in str(refused.value)
    shutil.rmtree(root / ".dvc" / "cache")
    with pytest.raises(HarnessError, match=r"results/stabilizing-lth/mini/claims\.json") as refused:
        run_command("first", "second")
    assert "\n" not in str(refused.value)
