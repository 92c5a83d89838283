"""The documentation as a site: `make docs`. `docs/generated.py` writes the parts of its pages that code knows.

Beside the pages lies the board of the published runs, board.html.
"""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs import generated  # noqa: E402
from harness.base.paths import REFERENCE, references, results_folder  # noqa: E402
from harness.compare.board import read_all, write_page  # noqa: E402

project = "Does this paper hold up?"
author = "The lth-harness authors"
copyright = f"{author}, Apache-2.0"
extensions = ["myst_parser"]
exclude_patterns = ["conf.py"]
nitpicky = True
smartquotes_action = "qe"  # quotes and ellipses; two hyphens begin an option

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path: list[str] = []

_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the generated parts where a page asks for them."""
    source[0] = _MARK.sub(lambda mark: generated.PARTS[mark[1]](), source[0])


def outdated(_app: Sphinx, env: BuildEnvironment, *_changes: set[str]) -> list[str]:
    """The pages that follow the code: each build reads them again."""
    return [page for page in env.found_docs if _MARK.search(Path(env.doc2path(page)).read_text(encoding="utf-8"))]


def board(app: Sphinx, failure: Exception | None) -> None:
    """Write the board of the published runs beside the pages. Raises ExtensionError for a run that can't be read."""
    if failure is None and app.builder.format == "html":
        folders = [results_folder(REFERENCE, *run) for run in references(ROOT)]
        runs, faults = read_all([(ROOT / folder, folder.as_posix()) for folder in folders])
        if faults:
            raise ExtensionError(faults[0])
        write_page(runs, [], Path(app.outdir) / "board.html")


def setup(app: Sphinx) -> None:
    """Connect all three to the build."""
    app.connect("source-read", fill)
    app.connect("env-get-outdated", outdated)
    app.connect("build-finished", board)
