"""`harness publish` on a small run: what it copies and writes, and what it refuses."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from harness.base import git
from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json, write_json
from harness.base.paths import references
from harness.cli.compare import compare as compare_command
from harness.cli.publish import publish as command
from harness.paper import load_spec
from harness.plan.runs import stages
from harness.publish.reference import FILES, differences, open_reference
from harness.publish.reproduction import PAGE, page
from harness.results.folders import Folders
from harness.workflow.run_stage import run_stage
from tests.end_to_end.conftest import TINY, Checkout, make_checkout
from tests.publish.test_reference import move
from tests.verify.alter import change_json, change_table, list_again

PAPER = "stabilizing-lth"


def call(root: Path, monkeypatch, function, *arguments: str) -> str:
    monkeypatch.setenv("HARNESS_ROOT", str(root))
    monkeypatch.chdir(root)
    app = typer.Typer()
    app.command()(function)
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, HarnessError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_again_judges_a_reference_anew_says_what_moved_and_writes_the_page(published, monkeypatch):
    move(published)
    published.list_again()
    before = read_json(published.folders.metrics)["claims"]
    said = call(published.root, monkeypatch, command, "--again")
    after = read_json(published.folders.metrics)["claims"]
    moved = [name for name in before if before[name]["verdict"] != after[name]["verdict"]]
    assert moved == ["C1"]
    assert f"stabilizing-lth at paper: C1: {before['C1']['verdict']}, size" in said
    assert f"before, now {after['C1']['verdict']}, size" in said
    assert list(differences(published.opened())) == []
    assert (published.root / PAGE).read_text() == page(published.root)
    assert "C1" not in call(published.root, monkeypatch, command, "--again")


def test_again_refuses_a_reference_that_is_not_its_cards(published, monkeypatch):
    move(published)
    with pytest.raises(HarnessError, match=r"table\.parquet: its checksum is not the card's\. Restore it from git"):
        call(published.root, monkeypatch, command, "--again")


def test_again_takes_no_run(published, monkeypatch):
    with pytest.raises(HarnessError, match="--again: judges every published run; omit the other options"):
        call(published.root, monkeypatch, command, "--again", "--scale", "paper")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[Checkout]:
    """A finished run of a few trainings by committed code, made stage by stage in this process."""
    checkout = make_checkout(tmp_path_factory.mktemp("publish") / "checkout")
    setting = {**TINY["experiments"]["lenet"], "change": {"steps": 50}}
    scale = checkout.root / "papers" / PAPER / "scales" / "tiny.yaml"
    scale.write_text(yaml.safe_dump({**TINY, "experiments": {"lenet": setting}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_ROOT", str(checkout.root))
        patch.setattr(git, "revision", lambda *_: ("a" * 40, True))
        spec, folders = load_spec(checkout.root, PAPER, "tiny"), Folders(checkout.results)
        for name in ["prepare/digits", *(stage.name for stage in stages(spec)), "collect", "claims", "report", "card"]:
            run_stage(spec, folders, name, 1)
        yield checkout


@pytest.fixture
def run(finished, tmp_path) -> Checkout:
    """A copy that a test may alter."""
    return replace(finished, root=Path(shutil.copytree(finished.root, tmp_path / "checkout", symlinks=True)))


@pytest.mark.slow
def test_a_finished_run_becomes_the_reference_and_others_are_held_against_it(run, monkeypatch):
    said = call(run.root, monkeypatch, command, "--scale", "tiny")
    assert "reference/stabilizing-lth/tiny: 0 seen here" in said
    assert "Not selected" not in said
    assert "Page: docs/reproduction.md. Commit it with reference/" in said
    assert references(run.root) == [(PAPER, "tiny")]
    copied = {
        path.relative_to(run.root / "reference" / PAPER / "tiny").as_posix(): path
        for path in (run.root / "reference").rglob("*")
        if path.is_file()
    }
    assert set(copied) == set(FILES) - {"stages/selection.json"}  # the whole scale was run
    assert all(file_sha256(path) == file_sha256(run.results / name) for name, path in copied.items())
    assert list(differences(open_reference(run.root, PAPER, "tiny"))) == []
    assert (run.root / PAGE).read_text() == page(run.root)
    same = call(run.root, monkeypatch, compare_command, "reference", str(run.results))
    assert "The tables are bit-identical except for times" in same
    assert sorted(path.name for path in (run.root / "reference").iterdir()) == [PAPER]


def unfinished(run: Checkout) -> None:
    (run.results / "card.json").unlink()


def selected(run: Checkout) -> None:
    write_json(run.results / "stages/selection.json", {"claims": [], "finished": False})


def altered(run: Checkout) -> None:
    def change(table):
        table.loc[0, "test_accuracy"] += 1.0

    change_table(run.results / "table.parquet", change)
    list_again(run.results, "table.parquet")  # the card follows


def uncommitted(run: Checkout) -> None:
    def change(card):
        card["code"]["tree_clean"] = False

    change_json(run.results / "card.json", change)


def partly_uncommitted(run: Checkout) -> None:
    def change(provenance):
        provenance["stages"][0]["tree_clean"] = None

    change_json(run.results / "provenance.json", change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unfinished, "holds no finished run. `harness reproduce` finishes it"),
        (selected, "holds no finished run. `harness reproduce` finishes it"),
        (altered, r"was altered: .*`harness verify` shows all"),
        (uncommitted, "the card: code that git has no commit of made it"),
        (partly_uncommitted, "stage lenet/c0/dense: code that git has no commit of made it"),
    ],
)
def test_other_runs_are_refused_in_one_line_and_leave_nothing(run, monkeypatch, change, message):
    change(run)
    with pytest.raises(HarnessError, match=message) as refused:
        call(run.root, monkeypatch, command, "--scale", "tiny")
    assert "\n" not in str(refused.value)
    assert not references(run.root)
    assert not (run.root / PAGE).exists()


@pytest.mark.slow
def test_where_nothing_was_run_one_line_says_so(run, monkeypatch):
    with pytest.raises(HarnessError, match=r"results/stabilizing-lth/smoke: holds no finished run"):
        call(run.root, monkeypatch, command, "--scale", "smoke")
    assert read_json(run.results / "card.json")["scale"] == "tiny"
