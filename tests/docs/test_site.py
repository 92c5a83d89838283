"""The site's build: a link or an anchor that leads nowhere fails it. `make docs` builds the site itself, in CI."""

import subprocess
import sys

from harness.base.paths import checkout

PAGE = """# A page

[there](#a-page), [no page](nowhere.md), [no anchor](#nowhere)
"""


def test_links_that_lead_nowhere_are_errors(tmp_path):
    (tmp_path / "index.md").write_text(PAGE)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html", "-c", str(checkout() / "docs")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(tmp_path), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "'nowhere.md'" in done.stderr
    assert "'nowhere'" in done.stderr
    assert "a-page" not in done.stderr
    makefile = (checkout() / "Makefile").read_text(encoding="utf-8")
    assert "--fail-on-warning" in makefile
