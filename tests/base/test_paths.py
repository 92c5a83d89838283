"""Where papers come from if the package is from a wheel; `tests/end_to_end/test_wheel.py` builds one."""

from pathlib import Path

import pytest

from harness.base import paths


def write_paper(root: Path, name: str, *scales: str) -> Path:
    folder = root / "papers" / name
    (folder / "scales").mkdir(parents=True)
    for file in ("paper.yaml", *(f"scales/{scale}.yaml" for scale in scales)):
        (folder / file).touch()
    return folder


@pytest.fixture
def shipped(monkeypatch, tmp_path) -> Path:
    """What a wheel ships, with the papers `mine` and `theirs`; the working directory is an empty folder beside it."""
    folder, empty = tmp_path / "site" / "harness" / "shipped", tmp_path / "empty"
    write_paper(folder, "mine", "smoke")
    write_paper(folder, "theirs", "smoke", "mini")
    (folder / "Snakefile").touch()
    empty.mkdir()
    monkeypatch.setattr(paths, "SHIPPED", folder)
    monkeypatch.setattr(paths, "OWN", folder.parents[1])
    monkeypatch.chdir(empty)
    monkeypatch.delenv("HARNESS_ROOT", raising=False)
    return folder


def test_in_an_empty_folder_papers_are_the_shipped_ones_and_the_folder_is_worked_in(shipped):
    here = Path.cwd()
    assert paths.checkout() == here
    assert paths.elsewhere() is None
    assert paths.paper_folders(here) == {name: shipped / "papers" / name for name in ("mine", "theirs")}
    assert paths.project_file(here, "Snakefile") == shipped / "Snakefile"
    assert paths.project_file(here, "dvc.yaml") == here / "dvc.yaml", "in neither: an error names the folder's own"


def test_a_folders_own_papers_and_files_go_before_the_shipped_ones(shipped, monkeypatch):
    here = Path.cwd()
    mine, third = write_paper(here, "mine", "mini"), write_paper(here, "third")
    (here / "Snakefile").touch()
    assert paths.paper_folders(here) == {"mine": mine, "theirs": shipped / "papers" / "theirs", "third": third}
    assert paths.project_file(here, "Snakefile") == here / "Snakefile"
    results = Path("results")
    others = paths.other_results(results, here, "theirs", "mini")
    assert set(others) == {results / "mine" / "mini", results / "theirs" / "smoke", results / ".check" / "theirs/mini"}
    below = here / "notes"
    below.mkdir()
    monkeypatch.chdir(below)
    assert paths.checkout() == here


def test_the_root_may_be_a_folder_without_papers(shipped, monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_ROOT", str(tmp_path))
    assert paths.checkout() == tmp_path


def test_papers_of_another_kind_around_the_working_directory_are_not_meant(shipped, tmp_path):
    (tmp_path / "papers" / "2019").mkdir(parents=True)
    (tmp_path / "papers" / "2019" / "frankle.pdf").touch()
    assert paths.checkout() == Path.cwd()
