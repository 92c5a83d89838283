"""Baselines on disk: what is written is read, and nothing else is."""

import json
import subprocess

import pytest

from harness.base.errors import HarnessError
from harness.base.files import digest
from harness.check.baseline import LARGEST, baseline_path, read_baseline, write_baseline
from tests.check.results import results


@pytest.fixture
def folder(tmp_path):
    """A paper's folder in a git repository, with a committed baseline."""
    paper = tmp_path / "checkout" / "papers" / "stabilizing-lth"
    write_baseline(baseline_path(paper, "mini"), results())
    git(tmp_path, "init", "-q", "checkout")
    commit(paper)
    return paper


def git(folder, *arguments):
    names = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


def commit(folder):
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "a baseline")


def read(folder, reference="committed", paper="stabilizing-lth", scale="mini"):
    return read_baseline(reference, folder, paper, scale)


def test_what_is_written_is_read_back(folder):
    assert read(folder) == (results(), "papers/stabilizing-lth/baselines/mini.json")


def test_a_file_and_a_revision_are_read(folder, tmp_path):
    other = results(machines=["later"])
    write_baseline(tmp_path / "mine.json", other)
    assert read(folder, str(tmp_path / "mine.json"))[0] == other
    write_baseline(baseline_path(folder, "mini"), other)
    commit(folder)
    assert read(folder)[0] == other
    assert read(folder, "HEAD")[0] == other
    assert read(folder, "HEAD~1")[0] == results()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no-such-branch", "no such file or git revision"),
        ("HEAD:papers", "no such file or git revision"),
        ("-rf", "give a file, a git revision or committed"),
        ("--output=x", "give a file, a git revision or committed"),
        ("", "give a file, a git revision or committed"),
        ("HEAD; touch pwned", "no such file or git revision"),
        ("HEAD\x00", "give a file, a git revision or committed"),
    ],
)
def test_an_unknown_reference_is_one_line(folder, monkeypatch, tmp_path, reference, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError, match=message) as error:
        read(folder, reference)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("pwned"))


def test_a_missing_one_says_how_to_make_it(folder):
    with pytest.raises(HarnessError, match="missing; make it with `harness check --scale smoke --write-baseline`"):
        read(folder, scale="smoke")
    with pytest.raises(HarnessError, match=r"this revision has no papers/stabilizing-lth/baselines/smoke\.json"):
        read(folder, "HEAD", scale="smoke")


def altered(folder, change) -> None:
    path = baseline_path(folder, "mini")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def resigned(content, **more):
    """Content with a digest that fits it."""
    content.pop("sha256")
    content.update(more)
    content["sha256"] = digest(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["claims"]["C1"].update(verdict="inconclusive"), "sha256: does not match the content"),
        (lambda c: c.pop("sha256"), "sha256: does not match the content"),
        (lambda c: c.update(sha256=["x"]), "sha256: does not match the content"),
        (lambda c: resigned(c, baseline=2), "baseline: "),
        (lambda c: resigned(c, more=1), "more: unknown field"),
        (lambda c: resigned(c, machines="here"), "machines: "),
        (
            lambda c: resigned(c, scale="paper"),
            "of stabilizing-lth at paper; give one of stabilizing-lth at mini",
        ),
        (lambda c: resigned(c, claims={"C1": 1}), "claims.C1: "),
        (lambda c: c["calibration"].update(lenet={"value": float("nan"), "band": None}), "not a baseline in JSON"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(folder, change, message):
    altered(folder, change)
    with pytest.raises(HarnessError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b" " * (LARGEST + 1)])
def test_a_file_that_is_no_baseline_is_refused(folder, content):
    baseline_path(folder, "mini").write_bytes(content)
    with pytest.raises(HarnessError):
        read(folder)
    commit(folder)
    with pytest.raises(HarnessError):
        read(folder, "HEAD")
