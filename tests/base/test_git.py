"""Which revision the code has: the checkout's own, whatever other repository is near."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.base.git import git, revision

CODE = "harness/__init__.py"
FOLDERS = ("Snakefile", "harness", "papers")


def run(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(folder), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def files(root: Path) -> None:
    for name in (CODE, "Snakefile", "papers/a/paper.yaml", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".gitignore").write_text("results/\n*.so\n")


def repository(root: Path, *names: str) -> str:
    """A repository with the named files in its only commit; the commit's id."""
    run(root, "init", "-q")
    run(root, "add", *names)
    run(root, "commit", "-q", "-m", "first", "--allow-empty")
    return run(root, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "outer" / "checkout"
    files(root)
    return root


def test_a_clean_checkout(root):
    commit = repository(root, ".")
    assert revision(root, CODE, FOLDERS) == (commit, True)


@pytest.mark.parametrize(
    ("file", "clean"),
    [
        ("harness/lottery/extra.py", False),  # untracked, and a run may import it
        ("papers/my-paper/paper.yaml", False),
        (CODE, False),
        ("README.md", False),
        ("notes.txt", True),
        ("results/table.csv", True),
        ("harness/kernels-avx2.so", True),  # ignored: compiled from what is tracked
    ],
)
def test_changed_files_and_new_code_make_it_unclean(root, file, clean):
    commit = repository(root, ".")
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text("changed")
    assert revision(root, CODE, FOLDERS) == (commit, clean)


def test_a_repository_around_an_unpacked_archive_is_not_its_own(root):
    other = root.parent
    (other / "thesis.tex").write_text("")
    repository(other, "thesis.tex")
    assert revision(root, CODE, FOLDERS) is None
    assert git(root, "rev-parse", "HEAD") is None
    run(other, "add", "checkout")
    assert revision(root, CODE, FOLDERS) is None  # tracked there, but the revision is of more than this project


def test_a_repository_that_does_not_track_the_code_is_not_its_own(root):
    repository(root, "README.md")
    assert revision(root, CODE, FOLDERS) is None


def test_a_hooks_environment_names_no_other_repository(root, tmp_path, monkeypatch):
    commit = repository(root, ".")
    other = tmp_path / "other"
    files(other)
    (other / "more").write_text("")
    assert repository(other, ".") != commit
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert revision(root, CODE, FOLDERS) == (commit, True)


def test_without_git_there_is_no_revision(root, monkeypatch):
    repository(root, ".")
    monkeypatch.setenv("PATH", "")
    assert revision(root, CODE, FOLDERS) is None
