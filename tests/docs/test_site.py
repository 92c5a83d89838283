"""The site's build: a link or an anchor that leads nowhere fails it. `make docs` builds the site itself, in CI."""

import subprocess
import sys
from pathlib import Path

from harness.base.paths import checkout, references

PAGE = """# A page

[there](#a-page), [no page](nowhere.md), [no anchor](#nowhere)
"""


def build(folder: Path, page: str) -> "subprocess.CompletedProcess[str]":
    """Build a site of one page into folder/site, with the configuration of the documentation."""
    (folder / "index.md").write_text(page)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html", "-c", str(checkout() / "docs")]
    command = [sys.executable, "-m", "sphinx", *options, str(folder), str(folder / "site")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_links_that_lead_nowhere_are_errors(tmp_path):
    done = build(tmp_path, PAGE)
    assert done.returncode != 0
    assert "'nowhere.md'" in done.stderr
    assert "'nowhere'" in done.stderr
    assert "a-page" not in done.stderr
    makefile = (checkout() / "Makefile").read_text(encoding="utf-8")
    assert "--fail-on-warning" in makefile


def test_the_board_has_every_published_run(tmp_path):
    done = build(tmp_path, "# A page\n")
    assert done.returncode == 0, done.stderr
    board = (tmp_path / "site" / "board.html").read_text(encoding="utf-8")
    published = references(checkout())
    assert published
    assert f"{len(published)} run" in board
    for paper, scale in published:
        assert f"<code>reference/{paper}/{scale}</code>" in board
