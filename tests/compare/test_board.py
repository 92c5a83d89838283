"""`harness board`: each verdict as claims.json has it, links that lead to pages, dates in order, changes, refusals."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from harness.base.untrusted import DEEPEST
from harness.claims.document import HERE
from harness.cli.app import app
from harness.paper.claims import LEFT_OUT
from harness.report.formats import SYMBOLS

REFERENCE = Path(__file__).parents[2] / "reference/stabilizing-lth/paper"
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> [bold]red[/bold] \x1b[31m'


class Tables(HTMLParser):
    """The tables of a page as rows of cells, each cell its text and its links; and all tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[tuple[str, list[str]]]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", []))
            self.inside = True
        elif tag == "a" and self.inside:
            self.tables[-1][-1][-1][1].append(dict(attrs)["href"] or "")

        elif tag == "br":
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "i":
            self.handle_data(" ")
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            text, links = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (f"{text}{data}", links)


def tidy(cell: tuple[str, list[str]]) -> str:
    return " ".join(cell[0].split())


Run = Callable[..., Path]


@pytest.fixture
def run(published_claims, tmp_path) -> Run:
    """Writes a run: the published one's card and claims with changes; `page` says whether its page is there."""

    def write(name: str, date: str, verdicts: dict[str, dict[str, Any]] | None = None, page: bool = False, **card: Any):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        content = json.loads((REFERENCE / "card.json").read_text())
        content |= {"finished": f"{date}T12:00:00+00:00", **card}
        (folder / "card.json").write_text(json.dumps(content))
        claims = [claim | (verdicts or {}).get(claim["id"], {}) for claim in published_claims]
        (folder / "claims.json").write_text(json.dumps(claims))
        if page:
            (folder / "report").mkdir()
            (folder / "report/index.html").write_text("<!doctype html>")
        return folder

    return write


@pytest.fixture(scope="module")
def published_claims() -> list[dict[str, Any]]:
    """The claims of the published LeNet run, as they stand in its file: five judged, with sizes, and the others."""
    claims = json.loads((REFERENCE / "claims.json").read_text())
    assert {claim["id"]: claim["verdict"] for claim in claims}["C2"] == "supported"
    return claims


def board(out: Path, *folders: Path, status: int = 0) -> tuple[str, str, str]:
    """The page, and what the command printed and complained about."""
    result = CliRunner().invoke(app, ["board", *map(str, folders), "--out", str(out)])
    assert result.exit_code == status, result.output
    page = out / "board.html"
    return page.read_text() if page.exists() else "", result.stdout, result.stderr


def test_every_cell_is_the_verdict_of_its_runs_file(run, tmp_path):
    here = {"papers_own": False, "size": None, "sizes": []}
    own = run("own", "2026-12-02", {"C2": {"fragile": [3]}})
    small = run(
        "small",
        "2026-12-01",
        {f"C{n}": here for n in range(1, 34)} | {"C1": {**here, "verdict": "inconclusive"}, "S1": here},
        scale="mini",
        hardware=[{"gpu": "NVIDIA H200", "cpu": "x"}, {"cpu": "AMD EPYC", "cores": 2, "gpu": ""}],
        code={"revision": "f" * 40, "tree_clean": False, "digests": {}},
    )
    page, out, _ = board(tmp_path / "out", small, own)
    [matrix] = Tables(page).tables
    head, *rows = matrix
    assert [tidy(cell).split(",")[0] for cell in head] == ["claim", "paper", "mini"]  # the paper's own scale first
    assert "mini, 2026-12-01 NVIDIA H200; AMD EPYC, 2 cores ffffffffff, with uncommitted changes" in tidy(head[2])
    files = [{claim["id"]: claim for claim in json.loads((at / "claims.json").read_text())} for at in (own, small)]
    assert [tidy(row[0]).split()[0] for row in rows] == [*(f"C{n}" for n in range(1, 34)), "S1"]
    for row in rows:
        for cell, claims in zip(row[1:], files, strict=True):
            claim = claims[tidy(row[0]).split()[0]]
            verdict = claim["verdict"]
            word = verdict if claim["papers_own"] else HERE.get(verdict, verdict)
            wanted = f"{SYMBOLS[verdict]} {word}"
            wanted += f" {SYMBOLS[claim['size']]} size {claim['size']}" if claim["size"] else ""
            wanted += " fragile" * bool(claim["fragile"]) + " not selected" * (claim["reason"] == LEFT_OUT)
            assert tidy(cell) == wanted
    assert "2 runs of 1 paper" in out
    assert "History" not in page  # of two scales there is none


def test_a_verdict_leads_to_its_claim_where_the_runs_page_is(run, tmp_path):
    with_page = run("a folder: #1?", "2026-12-01", page=True)
    without = run("without", "2026-12-02")
    page, _, _ = board(tmp_path / "far/away", with_page, without)
    parsed = Tables(page)
    _, *rows = parsed.tables[0]
    for row in rows:
        [link] = row[1][1]
        address = urlsplit(link)
        assert (address.scheme, address.netloc, address.query) == ("", "", "")
        target = (tmp_path / "far/away" / unquote(address.path)).resolve()
        assert target == with_page / "report/index.html"
        assert address.fragment == tidy(row[0]).split()[0]
        assert row[2][1] == []
    fetched = [value for _, attrs in parsed.tags for name, value in attrs.items() if name in ("src", "action")]
    assert not fetched
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "base"})


def test_a_history_is_in_date_order_and_marks_where_it_changed(run, published_claims, tmp_path):
    code = {"revision": "e" * 40, "tree_clean": True}
    digests = {"training": "1" * 64, "report": "2" * 64}
    third = run("third", "2026-12-03", {"C2": {"verdict": "inconclusive"}}, code={**code, "digests": digests})
    first = run("first", "2026-12-01", code={**code, "digests": digests | {"training": "3" * 64, "report": "4" * 64}})
    second = run(
        "second", "2026-12-02", {"C3": {"size": "unclear"}}, code={**code, "digests": digests | {"report": "4" * 64}}
    )
    fourth = run("fourth", "2026-12-04", {"C2": {"verdict": "inconclusive"}}, code={**code, "digests": digests})
    page, out, _ = board(tmp_path / "out", third, first, fourth, second)
    matrix, changed, unchanged = Tables(page).tables
    assert [re.findall(r"[\d-]{10}", tidy(cell))[0] for cell in matrix[0][1:]] == [f"2026-12-0{n}" for n in range(1, 5)]
    _, *rows = changed
    assert [tidy(row[0]).split()[0] for row in rows] == [
        *("C2", "2026-12-01", "2026-12-02", "2026-12-03", "2026-12-04"),
        *("C3", "2026-12-01", "2026-12-02", "2026-12-03", "2026-12-04"),
    ]
    marked = {(tidy(row[0]), tidy(row[1])): tidy(row[5]) for row in rows if len(row) > 1 and "changed" in row[1][0]}
    sizes = {claim["id"]: claim["size"] for claim in published_claims}
    assert [(date, verdict.split()[-4:]) for date, verdict in marked] == [
        (date, [SYMBOLS[size], "size", size, "changed"])
        for date, size in (("2026-12-03", sizes["C2"]), ("2026-12-02", "unclear"), ("2026-12-03", sizes["C3"]))
    ]
    to_inconclusive, to_unclear, back = marked.values()
    assert to_inconclusive.endswith("Code, settings and data are those of the run before.")  # the page's code is none
    assert to_unclear.endswith("Other than in the run before: code of training.")
    assert back.endswith("Code, settings and data are those of the run before.")
    assert [tidy(row[0]).split()[0] for row in unchanged if len(row) == 1] == ["C1", "C4", "C5"]
    assert "stabilizing-lth at paper: 4 runs, 2 of 5 claims changed" in out
    size = sizes["C2"]
    assert f"C2: supported, size {size} (2026-12-01) → inconclusive, size {size} (2026-12-03)\n" in out


def test_what_two_cards_have_different_stands_beside_a_change(run, published_claims, tmp_path):
    [claim] = [claim for claim in published_claims if claim["id"] == "C2"]
    other = claim["parts"][0] | {"region": [1.5, None]}
    old = {"data": {"mnist": "0"}, "spec": {"claims.yaml": "0" * 64}, "packages": {"torch": "1"}, "hardware": []}
    run("first", "2026-12-01", **old)
    run(
        "second",
        "2026-12-02",
        {"C2": {"verdict": "contradicted", "parts": [other, *claim["parts"][1:]]}, "C3": {"verdict": "inconclusive"}},
        data={"mnist": "1"},
        spec={"claims.yaml": "1" * 64, "scales/paper.yaml": "0" * 64},
        packages={"torch": "2"},
        hardware=[{"gpu": "NVIDIA H200"}],
    )
    page, _, _ = board(tmp_path / "out", tmp_path / "first", tmp_path / "second")
    rows = [row for row in Tables(page).tables[1] if len(row) > 1 and "changed" in row[1][0]]
    files = "files of the paper: claims.yaml, scales/paper.yaml; data: mnist; packages: torch; machine."
    assert tidy(rows[0][5]).endswith(f"Other than in the run before: regions of the claim; {files}")
    assert tidy(rows[1][5]).endswith(f"Other than in the run before: {files}")


def test_a_run_that_left_a_claim_out_is_not_in_its_history(run, tmp_path):
    first, last = run("first", "2026-12-01"), run("last", "2026-12-03")
    left_out = {"verdict": "not tested", "size": None, "reason": LEFT_OUT, "sizes": [], "parts": []}
    middle = run("middle", "2026-12-02", {"C2": left_out})
    page, out, _ = board(tmp_path / "out", first, middle, last)
    assert "3 runs, none of 5 claims changed" in out
    _, unchanged = Tables(page).tables
    names = [tidy(row[0]).split()[0] for row in unchanged]
    at = names.index("C2")
    assert names[at + 1 : at + 4] == ["2026-12-01", "2026-12-03", "C3"]


def test_a_results_folder_gives_each_finished_run_once(run, tmp_path):
    finished = run("results/stabilizing-lth/paper", "2026-12-01")
    other = run("results/other/mini", "2026-12-02", paper="other", title="Another <b>paper</b>", scale="mini")
    shutil.copytree(other, tmp_path / "results/other/unfinished")
    (tmp_path / "results/other/unfinished/card.json").unlink()
    page, out, _ = board(tmp_path / "out", tmp_path / "results", finished)
    assert "2 runs of 2 papers" in out
    assert len(Tables(page).tables) == 2
    assert "Another &lt;b&gt;paper&lt;/b&gt;</h2>" in page
    assert f"{tmp_path}/results/other/mini</code>" in page


def test_what_strangers_wrote_stays_text(run, tmp_path):
    hostile: dict[str, Any] = {
        "paper": EVIL,
        "title": EVIL,
        "scale": EVIL,
        "hardware": [{"gpu": EVIL, "cpu": ["x"], "cores": {}}],
        "code": {"revision": EVIL, "tree_clean": True, "digests": {}},
    }
    folders = [
        run(f'{n}"><script>x', f"2026-12-0{n}", {"C1": {"title": EVIL, "verdict": verdict}}, page=True, **hostile)
        for n, verdict in ((1, "supported"), (2, "contradicted"))
    ]
    page, out, _ = board(tmp_path / "out", *folders)
    tags = Tables(page).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "img"})
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(&#34;x&#34;)" in page
    assert "\x1b" not in page
    assert "\x1b" not in out
    assert "[bold]red" in out  # no markup of the terminal either


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "card.json").unlink(), "card.json: missing. Give the folder of a finished run"),
        (lambda run: (run / "claims.json").unlink(), "claims.json: missing. Give the folder of a finished run"),
        (lambda run: (run / "card.json").write_text("[]"), "card.json: "),
        (lambda run: (run / "claims.json").write_text("[" * (DEEPEST + 1)), "claims.json: nested more than"),
        (lambda run: _link(run / "claims.json"), "claims.json: not a regular file. Remove it and pull again"),
        (lambda run: _date(run, "yesterday"), "card.json: finished: 'yesterday' is no date and time. Pull it again"),
        (lambda run: _date(run, "0001-01-01T00:00:00+14:00"), "is no date and time. Pull it again"),
        (lambda run: shutil.rmtree(run), "neither a finished run's folder nor one that contains any. Give results/"),
    ],
)
def test_a_folder_that_cant_be_read_is_one_line_and_the_others_are_shown(run, tmp_path, spoil, message):
    fine, broken = run("fine", "2026-12-01"), run("broken", "2026-12-02")
    spoil(broken)
    page, out, complaints = board(tmp_path / "out", broken, fine, status=1)
    assert "1 run of 1 paper" in out
    [line] = complaints.splitlines()
    assert line.startswith(f"error: {broken}")
    assert message in line
    assert page.count("Not read:") == 1
    assert len(Tables(page).tables) == 1
    page, out, complaints = board(tmp_path / "none", broken, status=1)
    assert (page, out, complaints) == ("", "", f"{line}\n")


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _date(run: Path, date: str) -> None:
    card = json.loads((run / "card.json").read_text())
    (run / "card.json").write_text(json.dumps(card | {"finished": date}))
