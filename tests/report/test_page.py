"""The page: every claim with its verdict, nothing fetched, nothing injected, the same bytes twice."""

import csv
import errno
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import pandas as pd
import pytest
from rich.console import Console

from harness.base import words
from harness.base.errors import HarnessError
from harness.claims.document import ClaimVerdict
from harness.claims.judge import repeated
from harness.paper.models import PageFigure
from harness.report import build_report, formats, run_details, summary
from harness.report.page import FIGURES, TEMPLATES
from tests.report import synthetic

FILTER = (TEMPLATES / "page.js.j2").read_text().strip()
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> $\\frac{1}{0}$ | `a` **b** \x00\x1b[31m'


def build(out: Path, **changes: Any) -> tuple[str, str]:
    table, curves = synthetic.make()
    given: dict[str, Any] = {
        "paper": synthetic.paper(),
        "scale": synthetic.scale(),
        "claims": synthetic.claims(table),
        "table": table,
        "curves": curves,
        "published": synthetic.published(),
        "provenance": synthetic.provenance(),
    }
    build_report(**{**given, **changes}, out=out)
    return (out / "index.html").read_text(), (out / "report.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    out = tmp_path_factory.mktemp("report")
    return *build(out), out


def test_the_page_says_when_regions_were_frozen_what_moved_and_how_often_was_looked(tmp_path: Path) -> None:
    scale = {**synthetic.scale(), "frozen": ["2026-11-30", "2099-01-02"], "moves": ["C1 (a; now <b>): erratum"]}
    provenance = {**synthetic.provenance(), "looks": "looked at 3 times: 5, 6, 8 replicates"}
    claims = synthetic.claims(synthetic.make()[0])
    undecided = [claim.model_copy(update={"verdict": "inconclusive", "needed": 40}) for claim in claims[:1]]
    page, twin = build(tmp_path, scale=scale, provenance=provenance, claims=[*undecided, *claims[1:]])
    for text in (page, twin.replace("\\", "")):
        assert "frozen from 2026-11-30 to 2099-01-02, after this run began" in " ".join(text.split())
        assert "This run was looked at 3 times: 5, 6, 8 replicates." in text
        assert "Moved since its region was frozen: C1 (a; now &lt;b&gt;): erratum." in text
        assert "(about 40)" in text


class Tags(HTMLParser):
    """All start tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, *names: str) -> Iterator[str]:
        return (v for _, attributes in self.tags for k, v in attributes.items() if k in names and v)


def test_every_claim_stands_with_its_verdict(built: tuple[str, str, Path]) -> None:
    page, markdown, _ = built
    for claim in synthetic.claims(synthetic.make()[0]):
        article = re.search(rf"<h3><span>{claim.id}</span>.*?</article>", page, re.S)
        assert article
        assert claim.verdict in article[0].split("</header>")[0]
        assert claim.title.replace("'", "&#39;") in article[0]
        row = next(line for line in markdown.splitlines() if line.startswith(f"| [{claim.id}](#{claim.id}) |"))
        assert f"{formats.SYMBOLS[claim.verdict]} {claim.verdict}{', fragile' if claim.fragile else ''} |" in row
    assert "5 supported, 1 contradicted, 3 inconclusive, 24 not tested" in markdown
    assert "Of 33 claims, 9 could be judged at the mini scale" in page
    assert "Chosen in pilot runs of one replicate." in page
    assert "Chosen in pilot runs of one replicate." in markdown


def test_fragility_power_and_effects_stand_beside_the_verdicts(built: tuple[str, str, Path]) -> None:
    page, markdown, _ = built
    claims = {claim.id: claim for claim in synthetic.claims(synthetic.make()[0])}
    articles = dict(re.findall(r'<article class="claim" id="(C\d+)">(.*?)</article>', page, re.S))
    assert "Fragile: another verdict without replicate 1 or 4. Power in the world as published: 94%." in articles["C7"]
    assert "The same verdict without any one replicate." in articles["C1"]
    assert "94% (1 of 2 parts)" in articles["C1"]
    assert "Power in the world as published: not known." in articles["C10"]
    [first, *_] = claims["C1"].parts
    for text in formats.beside(first):
        assert text in articles["C1"]
        assert words.escape_markdown(text) in markdown
    assert formats.beside(first)[0] == f"{words.number(first.standardised, False)} SD from no effect"
    assert "would support 9 of 9 claims in 80% of runs or more." in page
    assert page.count(">fragile</span>") == 1


def test_each_judged_claim_has_a_link_its_command_and_its_numbers(built: tuple[str, str, Path]) -> None:
    page, markdown, _ = built
    articles = dict(re.findall(r'<article class="claim" id="(C\d+)">(.*?)</article>', page, re.S))
    for claim in synthetic.claims(synthetic.make()[0]):
        tags, command = Tags(articles[claim.id]), f"--paper stabilizing-lth --scale mini --claims {claim.id}"
        assert f"#{claim.id}" in set(tags.values("href"))
        assert (command in articles[claim.id]) == (f"harness reproduce {command}" in markdown) == claim.judged
        numbers = [unquote(href.partition(",")[2]) for href in tags.values("href") if href.startswith("data:")]
        rows = [list(csv.DictReader(io.StringIO(text))) for text in numbers]
        assert len(rows) == claim.judged
        for row, part in zip(*rows, claim.parts if rows else [], strict=False):
            assert row["part"] == part.name
            assert [None if v == "never" else float(v) for v in row["replicate_values"].split()] == part.values
            if part.estimate is not None and part.interval is not None:
                assert (float(row["estimate"]), float(row["low"])) == (part.estimate, part.interval[0])


def test_the_terminal_names_fragile_verdicts() -> None:
    console = Console(width=200, file=io.StringIO())
    console.print(summary.verdict_table(synthetic.claims(synthetic.make()[0])))
    text = console.file.getvalue()
    [line] = [line for line in text.splitlines() if line.split()[:1] == ["C7"]]
    assert ", fragile" in line
    assert text.count(", fragile") == 1
    assert "Fragile: another verdict without one of its replicates." in text


def scripts(page: str) -> list[str]:
    """The content of the page's script elements."""
    return [text.strip() for text in re.findall(r"<script[^>]*>(.*?)</script>", page, re.S)]


def test_nothing_is_fetched_and_only_the_filter_runs(built: tuple[str, str, Path]) -> None:
    page, _, _ = built
    tags = Tags(page)
    names = {tag for tag, _ in tags.tags}
    assert scripts(page) == [FILTER]
    assert not names & {"link", "iframe", "object", "embed", "img", "image", "foreignobject"}
    assert not list(tags.values("src", "srcset", "data", "xlink:href", "action", "poster"))
    assert not [k for _, attributes in tags.tags for k in attributes if k.startswith("on")]
    outside = {href for href in tags.values("href") if not href.startswith(("#", "data:text/csv;"))}
    files = {"report.md", "workflow/papers/stabilizing-lth/claims.yaml"}
    files |= {f"../{name}" for name in ("claims.json", "table.parquet", "curves.parquet", "card.json")}
    assert outside == {"https://arxiv.org/abs/1903.01611"} | files
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)


def test_ids_are_unique_and_links_lead_somewhere(built: tuple[str, str, Path]) -> None:
    tags = Tags(built[0])
    ids = list(tags.values("id"))
    assert len(ids) == len(set(ids))
    targets = {href[1:] for href in tags.values("href") if href.startswith("#")}
    targets |= {name for value in tags.values("aria-labelledby") for name in value.split()}
    targets |= {m for value in tags.values("style", "clip-path") for m in re.findall(r"url\(#([^)]+)\)", value)}
    assert targets <= set(ids)


def test_a_claims_anchor_is_its_id(tmp_path: Path) -> None:
    table, curves = synthetic.make(replicates=2)
    first, *others = synthetic.claims(table)
    claims = [*others[5:0:-1], synthetic.changed(first, id="C14b-x")]
    page, markdown = build(tmp_path, claims=claims, table=table, curves=curves)
    names = {claim.id for claim in claims}
    tags = Tags(page)
    assert {a["id"] for tag, a in tags.tags if tag == "article"} == names
    assert names <= {href[1:] for href in tags.values("href") if href.startswith("#")}
    assert not {name for name in tags.values("id") if name[0].isupper()} - names
    assert set(re.findall(r'^### <a id="([^"]+)"></a>\1 ', markdown, re.M)) == names
    assert set(re.findall(r"^\| \[([^]]+)\]\(#\1\) \|", markdown, re.M)) == names
    lost = {claim.id for claim in claims if not claim.judged}
    assert lost
    assert set(re.findall(r"^- \[([^]]+)\]\(#\1\) ", markdown, re.M)) == lost


def test_figures_are_named_for_screen_readers(built: tuple[str, str, Path]) -> None:
    pictures = [a for tag, a in Tags(built[0]).tags if tag == "svg" and a.get("aria-hidden") != "true"]
    assert len(pictures) == 10 + 9  # the paper's figures, and one for each judged claim
    assert all(a.get("role") == "img" and a.get("aria-labelledby") for a in pictures)


def test_markdown_shows_the_figures_it_names(built: tuple[str, str, Path]) -> None:
    _, markdown, out = built
    files = re.findall(r"\]\((figures/[^)]+)\)", markdown)
    assert len(files) == 19
    assert {out / name for name in files} == set((out / "figures").glob("*"))


def test_published_values_are_marked(built: tuple[str, str, Path]) -> None:
    page, markdown, _ = built
    assert "Published (paper's setting)" in page
    assert "published (paper's setting)</text>" in page
    assert "published (paper's setting)" in markdown


def test_two_builds_are_equal(built: tuple[str, str, Path], tmp_path: Path) -> None:
    page, markdown, out = built
    assert build(tmp_path) == (page, markdown)
    for path in (out / "figures").glob("*.svg"):
        assert path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes()


def test_text_from_results_is_escaped(tmp_path: Path) -> None:
    table, curves = synthetic.make(replicates=2)
    hostile = synthetic.claims(table)[0].model_dump(mode="json")
    for key in ("title", "statement", "reason", "note", "prediction"):
        hostile[key] = EVIL
    hostile["runs"] = [EVIL]
    hostile["source"] |= {"where": EVIL}
    hostile["parts"][0] |= {"name": EVIL, "reason": EVIL, "measure": EVIL}
    hostile["published"][0] |= {"quantity": EVIL, "unit": EVIL}
    claims = [ClaimVerdict.model_validate(hostile)]
    scale = synthetic.scale()
    scale["experiments"]["lenet"] |= {"title": EVIL, "data": EVIL, "recipe": {EVIL: EVIL}}
    table.loc[table.index[0], ["status", "run"]] = ["diverged", EVIL]
    table["experiment"] = table["experiment"].replace("resnet20-low", EVIL)
    paper = synthetic.paper() | {"title": EVIL, "authors": EVIL, "url": "javascript:alert(1)"}
    published = synthetic.published().assign(note=EVIL, figure=EVIL, k_unit=EVIL)
    provenance = synthetic.provenance() | {"packages": {EVIL: EVIL}, "hardware": {"cpu": EVIL}}
    changes = {"claims": claims, "scale": scale, "table": table, "paper": paper, "published": published}
    page, markdown = build(tmp_path, **changes, curves=curves, provenance=provenance)
    tags = Tags(page)
    assert scripts(page) == [FILTER]
    assert "img" not in {tag for tag, _ in tags.tags}
    assert not [k for _, attributes in tags.tags for k in attributes if k.startswith("on")]
    assert '<script>alert("x")' in "".join(tags.text)  # shown as written
    assert "$\\frac{1}{0}$" in page  # a dollar sign is not mathematics
    assert "javascript:" not in page.replace("<style>", "")
    assert "\x00" not in page + markdown
    assert "\x1b" not in page + markdown
    assert "<script" not in markdown
    assert "<img" not in markdown
    for line in markdown.splitlines():  # a cell cannot add a column
        if line.startswith("| ") and "alert" in line:
            assert "alert(1)&gt; |" not in line.replace("\\|", "")
    for picture in (tmp_path / "figures").glob("*.svg"):
        assert "<script" not in picture.read_text()


def test_an_empty_run(tmp_path: Path) -> None:
    empty = pd.DataFrame()
    page, markdown = build(
        tmp_path, table=empty, curves=empty, published=empty, claims=[], provenance={}, paper={}, scale={}
    )
    assert "nothing to draw" in page
    assert "no claims to show" in page
    assert "nothing to draw" in markdown


def test_a_scale_that_judges_nothing(tmp_path: Path) -> None:
    table, curves = synthetic.make(replicates=1)
    empty = {"verdict": "not tested", "estimate": None, "interval": None, "parts": []}
    first = synthetic.claims(synthetic.make()[0])[0]
    claims = [synthetic.changed(first, id=f"C{i}", title=f"claim {i}", **empty) for i in (10, 2, 1)]
    for name in table.columns:
        if str(name).startswith(("instability", "distance", "angle")):
            table[name] = float("nan")
    changes = {"claims": claims, "scale": synthetic.scale(judges=False), "table": table}
    page, markdown = build(tmp_path, **changes, curves=curves.iloc[:0])
    networks, stages = (table["row"] == "network").sum(), len(synthetic.provenance()["stages"])
    for text in (page, markdown):
        assert f"The pipeline works: {networks} networks in {stages} stages. The smoke scale judges no claim." in text
        assert "claim 10" not in text
        assert "not tested" not in text
    assert 'id="figure-accuracy_density"' in page
    assert 'id="figure-distance"' not in page


def test_lost_networks_are_named_and_left_out(built: tuple[str, str, Path]) -> None:
    page, markdown, _ = built
    assert "1 network did not finish" in page
    assert "resnet20-standard/r1/k50/L4/random_reinit/o0</code> (diverged)" in page
    assert "(diverged)" in markdown


def test_all_replicates_lost(tmp_path: Path) -> None:
    table, curves = synthetic.make(replicates=1)
    page, _ = build(tmp_path, table=table.assign(status="ancestor_diverged"), curves=curves, claims=[])
    assert "ancestor diverged" in page


def test_stale_figures_go(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "claim-99.svg").write_text("<svg/>")
    build(tmp_path, claims=[])
    assert not (tmp_path / "figures" / "claim-99.svg").exists()
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_stages_are_summed_by_kind(built: tuple[str, str, Path]) -> None:
    records = synthetic.provenance()["stages"]
    rows = run_details.stage_totals({"stages": records})
    assert len(rows) == 1 + 5 * len(synthetic.SETTINGS)
    assert [row["stage"] for row in rows[:6]] == ["prepare", "dense", "orders", "levels", "branches", "stability"]
    lenet = next(row for row in rows if (row["stage"], row["experiment"]) == ("levels", "lenet"))
    assert lenet == {
        "stage": "levels",
        "experiment": "lenet",
        "jobs": 2,
        "seconds": "6 min 40 s",
        "training": "6 min 24 s",
        "networks": "7 min 24 s",
        "steps": "56,000",
        "memory": "638 MiB",
    }
    page, markdown, _ = built
    assert page.count("<tr><td>levels</td>") == len(synthetic.SETTINGS)
    assert "| levels | lenet | 2 | 6 min 40 s | 6 min 24 s | 7 min 24 s | 56,000 | 638 MiB |" in markdown


def test_stages_without_the_networks_time(tmp_path: Path) -> None:
    records = [{k: v for k, v in r.items() if k != "network_seconds"} for r in synthetic.provenance()["stages"]]
    page, markdown = build(tmp_path, claims=[], provenance={"stages": records})
    assert "networks trained in" not in page
    assert "| levels | lenet | 2 | 6 min 40 s | 6 min 24 s | 56,000 | 638 MiB |" in markdown.replace("\\", "")


def test_times_say_what_they_are(built: tuple[str, str, Path]) -> None:
    for label, value in (
        ("Wall clock of all passes of harness reproduce, stops excluded", "45 min"),
        ("Share of the stages&#39; time spent in training", "93%"),
        ("Time in which the networks were trained, added up over jobs", "1 h 17 min"),
    ):
        assert f"<dt>{label}</dt><dd>{value}</dd>" in built[0]
        assert f"| {label.replace('&#39;', chr(39))} | {value} |" in built[1]


def test_invariants_and_calibration_bands_are_told(built: tuple[str, str, Path]) -> None:
    page, markdown, _ = built
    names = "Invariants that held in every training that they are about"
    assert f"<dt>{names}</dt><dd>number of steps, masks nest</dd>" in page
    assert re.search(r"test accuracy 98\.38%, expected 97 to 100%: inside", page)
    assert "| test accuracy 97 to 100%: 98.38% |" in markdown


def test_what_chance_alone_would_support(built: tuple[str, str, Path]) -> None:
    # eight claims on t intervals, one on the onset of five replicates
    told = f"about {words.number(8 * 0.025 + 1 / 32)} of 9 verdicts"
    for text in built[:2]:
        assert told in text
        assert "and at most as many" in text
        assert "(2.5% each under normal noise; more with skew)" in text


def test_evidence_counts_once(tmp_path: Path) -> None:
    first, *others = synthetic.claims(synthetic.make()[0])
    again = synthetic.changed(first, id="C40")
    assert repeated([first, *others, again]) == {"C40": [first.id]}
    text = build(tmp_path, claims=[first, *others, again])
    assert f"C40 repeats parts of {first.id}." in text[0]
    assert f"about {words.number(8 * 0.025 + 1 / 32)} of 9 verdicts" in text[0]


def test_a_smaller_scale_says_what_is_seen_here_and_the_papers_own_has_sizes(tmp_path: Path) -> None:
    claims = synthetic.claims(synthetic.make()[0])
    size = {"name": "IMP", "statistic": "mean", "measure": "test_accuracy", "log": False, "verdict": "differs"}
    size |= {"estimate": 98.3, "published": 97.0, "expected": [96.5, 97.5], "z": 5.2, "replicates": 5}
    own = [synthetic.changed(claims[0], size="differs", sizes=[size]), *claims[1:]]
    html, markdown = build(tmp_path / "own", claims=own)
    for text in (html, markdown):
        assert "97%" in text
        assert "96.5, 97.5" in text
        assert "≠ differs" in text
        assert "sizes: 1 differs" in text
        assert "not seen here" not in text
    here = [synthetic.changed(claim, papers_own=False) for claim in claims]
    for text in build(tmp_path / "other", claims=here)[:2]:
        for word in ("seen here", "not seen here", "unclear here"):
            assert word in text
        assert ", contradicted" not in text
        assert "size differs" not in text


def test_matching_and_equality_are_told(built: tuple[str, str, Path]) -> None:
    for text in built[:2]:
        words = " ".join(text.split())
        assert "nearer to the dense network than to one that fails" in words
        assert "a large p-value would not do" in words


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(HarnessError, match="Free some space"):
        build(tmp_path, claims=[], table=pd.DataFrame(), curves=pd.DataFrame())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nothing_half_written_where_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(HarnessError, match=r"out.*can't be written"):
        build(tmp_path / "out", claims=[], table=pd.DataFrame(), curves=pd.DataFrame())


def test_every_figure_of_the_paper_says_where_it_is_drawn_and_what_was_published(tmp_path: Path) -> None:
    figures = [
        {"figure": "Fig. 5", "shows": "accuracy", "published": "Fig. 5", "drawn_in": ["accuracy-density"]},
        {"figure": "Fig. 7", "shows": EVIL, "published": "Fig. 7", "drawn_in": ["distance-k"]},
        {"figure": "Fig. 9", "shows": "SNIP", "published": "Fig. 9", "drawn_in": [], "note": "half of it"},
    ]
    experiments: tuple[list[str], ...] = (["resnet20-standard", "vgg19-standard"], ["resnet50"], ["lenet"])
    paper = synthetic.paper() | {
        "figures": [f | {"experiments": names} for f, names in zip(figures, experiments, strict=True)]
    }
    told = synthetic.published().iloc[:1].assign(figure="Fig. 9", obtained="text", measure="matching_k")
    published = pd.concat([synthetic.published(), told], ignore_index=True)
    page, markdown = build(tmp_path, paper=paper, published=published, claims=[])
    rows = re.findall(r"<tr><td class=\"nowrap\">(Fig\. \d+)</td>(.*?)</tr>", page)
    assert [name for name, _ in rows] == ["Fig. 5", "Fig. 7", "Fig. 9"]
    assert '<a href="#drawn-accuracy-density">accuracy-density</a></td><td>resnet20-standard</td>' in rows[0][1]
    assert "22 values digitised" in rows[0][1]
    assert "<td>–</td><td>none at this scale</td><td>not digitised: its values were not available</td>" in rows[1][1]
    assert "not digitised; 1 numbers stand in the text; half of it" in rows[2][1]
    assert 'id="drawn-accuracy-density"' in page
    assert "| Fig. 5 | accuracy | accuracy-density | resnet20-standard | 22 values digitised |" in (
        markdown.replace("\\", "")
    )
    assert "<script>alert" not in page + markdown


def test_captions_tell_whose_a_threshold_is(built: tuple[str, str, Path], tmp_path: Path) -> None:
    assert "{" not in "".join(re.findall(r"<figcaption>(.*?)</figcaption>", built[0]))
    assert "Stable, shaded" not in built[0] + built[1]
    paper = synthetic.paper() | {"stable_below": {"value": 2, "source": EVIL}}
    paper["matching_within"] = {"value": 0.2, "source": "Fig. 9 (printed)"}
    page, markdown = build(tmp_path, paper=paper, claims=[])
    assert "below 2 points (&lt;script&gt;" in page
    assert scripts(page + markdown) == [FILTER]
    assert "onset-density" in page
    assert "Matching: less than 0.2 points below the dense network (Fig. 9 (printed))." in page


def test_the_figures_that_a_paper_can_name_are_the_pages() -> None:
    assert set(get_args(PageFigure)) == {name for _, name, *_ in FIGURES}
