"""`harness board`: the verdicts of many runs on one page, and where a claim's verdict changed from run to run.

A run's verdicts stand in a column. Runs of one paper and scale follow each other in the order in which they finished:
they are the history of that paper's claims there. Everything shown comes from cards and claims.json, and is escaped.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.markup import escape

from harness.base import words
from harness.base.errors import HarnessError, reason
from harness.base.files import write_text
from harness.claims.document import VERDICTS, ClaimVerdict
from harness.compare.differences import TEMPLATES
from harness.compare.read import JudgedRun, read_judged, run_folders
from harness.paper.claims import LEFT_OUT
from harness.report import formats, summary
from harness.report.page import html

#: parts of the code that no verdict depends on
_NO_VERDICT = ("report", "tickets")


@dataclass(frozen=True)
class Step:
    """A claim in one run of its history. `changed`: verdict or size is not that of the run before.

    `other`: what the cards of these two runs have different, in words; "" unless it changed.
    """

    run: JudgedRun
    claim: ClaimVerdict
    changed: bool
    other: str


@dataclass(frozen=True)
class Series:
    """Several runs of one paper and scale in date order, and the steps of each claim that one of them judged."""

    scale: str
    runs: list[JudgedRun]
    histories: dict[str, list[Step]]

    @property
    def changed(self) -> dict[str, list[Step]]:
        """The histories in which something changed."""
        return {name: steps for name, steps in self.histories.items() if any(step.changed for step in steps)}

    @property
    def unchanged(self) -> dict[str, list[Step]]:
        """The other histories."""
        return {name: steps for name, steps in self.histories.items() if name not in self.changed}


@dataclass(frozen=True)
class PaperRuns:
    """All runs of one paper: by scale, its own first, and then by date. `titles` has every claim of any of them."""

    paper: str
    title: str
    runs: list[JudgedRun]
    titles: dict[str, str]
    series: list[Series]


def write_board(sources: Sequence[tuple[Path, str]], path: Path, console: Console) -> list[str]:
    """Write the board of these folders to `path` and print what changed. Returns a line for each that can't be read.

    `sources` are runs or results folders, with what the user called them. Writes nothing if no run can be read.
    """
    runs, faults = read_all(sources)
    if runs:
        write_page(runs, faults, path)
        for line in lines(by_paper(runs)):
            console.print(escape(line), soft_wrap=True)
        console.print(f"Page: {escape(str(path))}", soft_wrap=True)
    return faults


def read_all(sources: Sequence[tuple[Path, str]]) -> tuple[list[JudgedRun], list[str]]:
    """The runs in these folders, each folder once, and a line for each that can't be read."""
    runs: dict[Path, JudgedRun] = {}
    faults = []
    for source, called in sources:
        try:
            folders = run_folders(source, called)
        except (HarnessError, OSError) as error:
            faults.append(words.clean(reason(error)))
            continue
        for folder, name in folders:
            try:
                runs.setdefault(folder.resolve(), read_judged(folder, name))
            except (HarnessError, OSError) as error:
                faults.append(words.clean(reason(error)))
    return list(runs.values()), faults


def by_paper(runs: Sequence[JudgedRun]) -> list[PaperRuns]:
    """The runs by paper, in the order of the papers' names."""
    return [
        _paper_runs(paper, [run for run in runs if run.card["paper"] == paper])
        for paper in sorted({run.card["paper"] for run in runs})
    ]


def _paper_runs(paper: str, runs: Sequence[JudgedRun]) -> PaperRuns:
    dated = sorted(runs, key=lambda run: (run.finished, run.name))
    ordered = sorted(dated, key=lambda run: (not _own_scale(run), run.card["scale"]))  # stable: dates keep their order
    titles = {name: words.clean(claim.title) for run in dated for name, claim in run.claims.items()}
    return PaperRuns(
        paper=words.clean(paper),
        title=words.clean(dated[-1].card["title"]) or words.clean(paper),
        runs=ordered,
        titles={name: titles[name] for name in sorted(titles, key=words.natural_key)},
        series=list(_series(ordered)),
    )


def _own_scale(run: JudgedRun) -> bool:
    return any(claim.papers_own for claim in run.claims.values())


def _series(runs: Sequence[JudgedRun]) -> Iterator[Series]:
    for scale in dict.fromkeys(run.card["scale"] for run in runs):
        same = [run for run in runs if run.card["scale"] == scale]
        if len(same) > 1:
            names = sorted({name for run in same for name in run.claims}, key=words.natural_key)
            histories = {name: history(name, same) for name in names}
            yield Series(words.clean(scale), same, {name: steps for name, steps in histories.items() if _told(steps)})


def _told(steps: Sequence[Step]) -> bool:
    """Whether a claim has a history: several runs, of which one could judge it."""
    return len(steps) > 1 and any(step.claim.judged or step.claim.size for step in steps)


def history(name: str, runs: Sequence[JudgedRun]) -> list[Step]:
    """A claim's steps through the runs that have it, in their order. A run whose selection left it out has not."""
    having = [run for run in runs if name in run.claims and run.claims[name].reason != LEFT_OUT]
    steps = []
    for before, run in zip([None, *having], having, strict=False):
        changed = before is not None and _judgement(before.claims[name]) != _judgement(run.claims[name])
        other = what_differs(before, run, name) if before is not None and changed else ""
        steps.append(Step(run, run.claims[name], changed, other))
    return steps


def _judgement(claim: ClaimVerdict) -> tuple[str, str | None]:
    return claim.verdict, claim.size


def what_differs(before: JudgedRun, after: JudgedRun, name: str) -> str:
    """What two runs' cards, and the regions that a claim was judged by, have different, in words; "" for nothing.

    Files of the paper, code that reaches a verdict, data sets, packages, machines.
    """
    a, b = before.card, after.card
    regions = [{part.name: part.region for part in run.claims[name].parts} for run in (before, after)]
    named = {
        "code of": _unequal(a["code"]["digests"], b["code"]["digests"], _NO_VERDICT),
        "files of the paper:": _unequal(a["spec"], b["spec"]),
        "data:": _unequal(a["data"], b["data"]),
        "packages:": _unequal(a["packages"], b["packages"]),
    }
    differing = [f"{kind} {', '.join(names)}" for kind, names in named.items() if names]
    if all(regions) and regions[0] != regions[1]:
        differing.insert(0, "regions of the claim")
    if machine(before) != machine(after):
        differing.append("machine")
    return "; ".join(differing)


def _unequal(a: Mapping[str, Any], b: Mapping[str, Any], left_out: Sequence[str] = ()) -> list[str]:
    names = sorted({*a, *b} - {*left_out}, key=words.natural_key)
    return [words.clean(name) for name in names if a.get(name) != b.get(name)]


def machine(run: JudgedRun) -> str:
    """The machines that computed a run, each once: the GPU, or the processor with its cores."""
    named = []
    for hardware in run.card["hardware"]:
        gpu, cpu, cores = (words.clean(hardware.get(key)) for key in ("gpu", "cpu", "cores"))
        named.append(gpu or ", ".join(filter(None, (cpu, f"{cores} cores" if cores else ""))))
    return "; ".join(dict.fromkeys(filter(None, named)))[:200] or "machine not recorded"


def lines(papers: Sequence[PaperRuns]) -> list[str]:
    """What the board has, and each change, as lines of text."""
    runs = sum(len(paper.runs) for paper in papers)
    text = [f"{runs} {'run' if runs == 1 else 'runs'} of {len(papers)} {'paper' if len(papers) == 1 else 'papers'}"]
    for paper in papers:
        for series in paper.series:
            text.append(f"{paper.paper} at {series.scale}: {changes(series)}")
            text += [f"  {name}: {_arrows(steps)}" for name, steps in series.changed.items()]
    return text


def changes(series: Series) -> str:
    """How many of a series' claims changed."""
    number, of = len(series.changed), len(series.histories)
    return f"{len(series.runs)} runs, {number or 'none'} of {of} {'claim' if of == 1 else 'claims'} changed"


def _arrows(steps: Sequence[Step]) -> str:
    """The verdicts of a history without repetition: `supported (2026-11-30) → inconclusive (2026-12-01)`."""
    moves = [step for place, step in enumerate(steps) if place == 0 or step.changed]
    return " → ".join(
        f"{step.claim.word}{f', size {step.claim.size}' if step.claim.size else ''} ({step.run.finished:%Y-%m-%d})"
        for step in moves
    )


def write_page(runs: Sequence[JudgedRun], faults: Sequence[str], path: Path) -> None:
    """Write the board to `path`. It needs no other file; links to the runs' own pages are relative to its folder."""
    papers = by_paper(runs)
    context = {
        "papers": papers,
        "outcome": lines(papers)[0],
        "faults": faults,
        "symbols": formats.SYMBOLS,
        "several": any(paper.series for paper in papers),
        "columns": {run.folder: _column(run, path.parent) for run in runs},
        "changes": changes,
        "css_class": formats.css_class,
        "headline": formats.headline,
        "left_out": LEFT_OUT,
    }
    write_text(path, html(TEMPLATES).get_template("board.html.j2").render(context))


def _column(run: JudgedRun, folder: Path) -> dict[str, Any]:
    """What stands above a run's verdicts; `page` is the address of its page as seen from a folder, "" without any."""
    code, page = run.card["code"], run.folder / "report" / "index.html"
    counts = summary.counts(list(run.claims.values()))
    return {
        "name": words.clean(run.name),
        "scale": words.clean(run.card["scale"]),
        "machine": machine(run),
        "date": f"{run.finished:%Y-%m-%d}",
        "time": f"{run.finished:%Y-%m-%d %H:%M} UTC",
        "revision": words.clean(code["revision"])[:10] or "code unknown",
        "changed_code": code["tree_clean"] is False,
        "counts": [(verdict, counts[verdict]) for verdict in VERDICTS],
        "page": quote(Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix()) if page.is_file() else "",
    }
