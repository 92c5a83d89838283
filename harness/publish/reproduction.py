"""docs/reproduction.md: the published runs beside the papers' own numbers, from the references alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.base import words
from harness.base.files import write_text
from harness.base.paths import references
from harness.claims.document import ClaimVerdict, PartVerdict, SizeVerdict, read_claims, shown
from harness.claims.looks import read_looks, sentence
from harness.data import checksum
from harness.paper import Spec
from harness.paper.claims import LEFT_OUT, LEVEL, Cell, Part, PublishedValue, ScaleClaim, expand_parts
from harness.paper.columns import same_density
from harness.paper.load import dump
from harness.paper.params import default_run
from harness.publish.reference import open_reference
from harness.report import formats
from harness.report.content import page_content
from harness.report.figures import Data
from harness.report.page import markdown
from harness.report.published_points import RATIO, Point, points
from harness.report.run_details import INVARIANTS
from harness.results.open import load_scale
from harness.results.selection import read_selection
from harness.stages.judging import published, scale_content
from harness.verify.shared_run import SharedRun

PAGE = Path("docs/reproduction.md")
TEMPLATES = Path(__file__).parent / "templates"
UNITS = {"x": "×", "degrees": "°"}  # of claims' published numbers, as the page writes them
#: units of a claim's published numbers -> the measures that have them, by the beginnings of their names
MEASURED_IN = {"%": "test_accuracy", "L2": "distance", "degrees": "angle", "x": RATIO, "points": "instability"}


class Judged(NamedTuple):
    """What a claim says of a published number that one of its parts is about."""

    claim: str
    part: PartVerdict | None
    size: SizeVerdict | None


def write_page(root: Path) -> Path:
    """Write docs/reproduction.md of a checkout and return its path."""
    path = root / PAGE
    write_text(path, page(root))
    return path


def page(root: Path) -> str:
    """The page's text. Raises HarnessError for a reference that can't be read."""
    first = default_run(root).paper
    sections = [section(root, open_reference(root, *run)) for run in references(root)]
    # the default paper before others, a paper's own scale before smaller ones
    sections.sort(key=lambda content: (content["paper"]["id"] != first, content["paper"]["id"], not content["own"]))
    return markdown(TEMPLATES).get_template("reproduction.md.j2").render(sections=sections, symbols=formats.SYMBOLS)


def section(root: Path, reference: SharedRun) -> dict[str, Any]:
    """What the template shows of one reference."""
    spec, folders = reference.spec, reference.folders
    claims = formats.by_id(read_claims(folders.claims))
    paper, scale = dump(spec.paper), scale_content(spec)
    data = Data.of(reference.table, reference.curves, published(spec), scale["experiments"], paper)
    content = page_content(
        paper, scale, claims, data, {**reference.provenance, "looks": sentence(read_looks(folders.looks))}
    )
    measured = sorted(points(data), key=lambda point: words.natural_key(point.published["figure"]))
    judged = {claim.id for claim in claims if claim.judged or claim.sizes}
    listing = [claim for claim in content["claims"] if claim["id"] in judged]
    for claim, verdict in zip(listing, (claim for claim in claims if claim.id in judged), strict=True):
        claim["parts"] = [_part(part, verdict) for part in verdict.parts]
        claim["published"] = list(_published_apart(spec, verdict, measured))
    for setting in content["settings"]:
        setting["whole"] = spec.whole_replicates.get(setting["name"])
    return content | {
        "claims": listing,
        "run": [(name, value) for name, value in content["run"] if name != INVARIANTS],
        "own": spec.scale.papers_own,
        "anchor": f"{spec.paper.id}-{spec.scale_name}",
        "hours": _hours(reference.provenance),
        "command": _command(spec, read_selection(folders)),
        "folder": folders.base.relative_to(root).as_posix(),
        "revisions": sorted({record["code_revision"] for record in reference.provenance["stages"]}),
        "tables": list(_tables(spec, claims, data, measured)),
        "not_selected": [claim.id for claim in claims if claim.reason == LEFT_OUT],
        "not_tested": [
            {"id": claim.id, "title": words.clean(claim.title), "reason": words.clean(claim.reason)}
            for claim in claims
            if claim.id not in judged and claim.reason != LEFT_OUT
        ],
        "other_data": _other_data(reference),
        "not_measured": _not_measured(spec, data, measured),
        "not_run": list(_not_run(root, spec, data)),
    }


def _other_data(reference: SharedRun) -> list[str]:
    """The data sets of the run that the scale no longer trains on."""
    own = reference.spec.scale.data
    today = {e.data: checksum(e.data, own) for e in reference.spec.scale.experiments.values()}
    return sorted(name for name, digest in reference.card["data"].items() if today.get(name) != digest)


def _hours(provenance: Mapping[str, Any]) -> str:
    """The run's wall clock and its CPU time; of an older run the time in which its networks were trained."""
    wall = words.duration(provenance["wall_clock_seconds"])
    if provenance.get("cpu_seconds") is None:
        return f"{wall} on the clock, {words.duration(provenance['network_core_seconds'])} of training"
    return f"{wall} on the clock, {words.duration(provenance['cpu_seconds'])} of CPU time"


def _command(spec: Spec, selection: Mapping[str, Any] | None) -> str:
    """The command that makes the run again."""
    text = f"harness reproduce --paper {spec.paper.id} --scale {spec.scale_name}"
    if selection is None:
        return text
    flags = " --every-replicate" * bool(selection.get("every_replicate")) + " --until-decided" * bool(spec.looks)
    return f"{text} --claims {','.join(_entries(spec))}{flags}"


def _tables(
    spec: Spec, claims: Sequence[ClaimVerdict], data: Data, measured: Sequence[Point]
) -> Iterator[dict[str, Any]]:
    """For each experiment that was run, its published numbers beside the measured ones."""
    for name in data.names():
        own = [point for point in measured if point.published["experiment"] == name]
        if own:
            yield {
                "experiment": data.title(name, 200),
                "rows": [_row(spec, point, list(_judgements(spec, claims, point))) for point in own],
            }


def _row(spec: Spec, point: Point, judgements: Sequence[Judged]) -> dict[str, Any]:
    row = point.published
    place = "" if row["branch"] == "dense" else f", {words.percent(row['density'])} left"
    at = f", k = {row['k']:,.0f}" if row["branch"] != "dense" or row["comparison"] else ""
    return {
        "network": f"{point.branch}{at}{place}",
        "measure": point.measure,
        "published": printed(row["value"], row["error"], least=1),
        "measured": _measured(point, judgements),
        "sizes": ", ".join(f"{judged.size.verdict} ({judged.claim})" for judged in judgements if judged.size),
        "where": f"{_figure(spec, str(row['figure']))}, {words.clean(row['obtained'])}",
    }


def _measured(point: Point, judgements: Sequence[Judged]) -> str:
    """The estimate with its interval: of the first claim that judges it at this level, else the point's own."""
    estimate, low, high = (words.finite(number) for number in (point.estimate, point.low, point.high))
    parts = [judged.part for judged in judgements if judged.part is not None and judged.part.level == LEVEL]
    if parts and parts[0].estimate is not None:
        estimate, (low, high) = parts[0].estimate, parts[0].interval or (None, None)
    span = "" if low is None or high is None else f" [{_decimals(low)}, {_decimals(high)}]"
    return f"{_decimals(estimate or 0.0)}{span}"


def _figure(spec: Spec, name: str) -> str:
    """A figure as the paper calls it: `fig8-one-shot` is part of fig8."""
    figures = {figure.published: figure.figure for figure in spec.paper.figures}
    return words.clean(figures.get(name) or figures.get(name.partition("-")[0]) or name)


def printed(value: float, error: float | None = None, least: int = 0) -> str:
    """A published number as it was printed, with its error: 98.0 ± 0.2. Both have the decimals of the finer one."""
    numbers = [value, *(bound for bound in (error,) if bound is not None and np.isfinite(bound))]
    decimals = max(least, *(len(f"{number:.12g}".partition(".")[2]) for number in numbers))
    return " ± ".join(f"{number:,.{decimals}f}" for number in numbers).replace("-", "−")


def _decimals(value: float) -> str:
    """A measured number with two decimals."""
    text = f"{value:,.2f}"
    return ("0.00" if text == "-0.00" else text).replace("-", "−")


def _judgements(spec: Spec, claims: Sequence[ClaimVerdict], point: Point) -> Iterator[Judged]:
    """The claims with a part that is this very number: its mean, its median, or its ratio."""
    entries = _entries(spec)
    for claim in claims:
        entry = entries.get(claim.id)
        for part in expand_parts(entry) if entry else []:
            if _is_about(part, point.published):
                judged = next((own for own in claim.parts if own.name == part.name), None)
                size = next((own for own in claim.sizes if own.name == part.name), None)
                yield Judged(claim.id, judged, size)


def _entries(spec: Spec) -> dict[str, ScaleClaim]:
    """What each claim predicts at the scale, if it does."""
    return {claim.id: claim.scales[spec.scale_name] for claim in spec.claims if spec.scale_name in claim.scales}


def _is_about(part: Part, row: Mapping[str, Any]) -> bool:
    """Whether a part is a published number itself, and not a difference or a trend of several."""
    if part.statistic == "ratio" and part.a and part.b:
        cells = [part.a, part.b]
        same = row["measure"] == f"{part.measure}{RATIO}" and row["branch"] == f"{part.a.branch}/{part.b.branch}"
    elif part.statistic in ("mean", "median") and part.a:
        cells = [part.a]
        same = row["measure"] == (part.a.measure or part.measure) and row["branch"] == part.a.branch
    else:
        return False
    return same and all(_at(cell, row) for cell in cells)


def _at(cell: Cell, row: Mapping[str, Any]) -> bool:
    """Whether a cell is where a published number belongs."""
    if (cell.experiment, cell.comparison or "") != (row["experiment"], row["comparison"]):
        return False
    dense = cell.branch == "dense"
    if not (dense and not cell.comparison) and (cell.k or 0) != row["k"]:
        return False
    return dense or (cell.density is not None and bool(same_density(row["density"], cell.density)))


def _published_apart(spec: Spec, claim: ClaimVerdict, measured: Sequence[Point]) -> Iterator[dict[str, str]]:
    """A claim's published numbers that are none of the points."""
    entry = _entries(spec).get(claim.id)
    experiments = {cell.experiment for part in (entry.parts if entry else ()) for cell in part.cells}
    for value in claim.published:
        if not any(_same_number(value, point, experiments) for point in measured):
            unit = UNITS.get(value.unit, words.clean(value.unit))
            number = formats.with_unit(printed(value.value, value.error), unit)
            yield {"quantity": words.clean(value.quantity), "value": number, "obtained": value.obtained}


def _same_number(value: PublishedValue, point: Point, experiments: set[str]) -> bool:
    """Whether a claim's published number is a point's: the same number, error and kind of measure."""
    row = point.published
    kind = MEASURED_IN.get(value.unit)
    error = value.error if value.error is not None else np.nan
    return (
        row["experiment"] in experiments
        and kind is not None
        and (kind in row["measure"] if kind == RATIO else row["measure"] in (kind, f"{kind}_test"))
        and row["value"] == value.value
        and (np.isnan(error) or row["error"] == error)
    )


def _part(part: PartVerdict, claim: ClaimVerdict) -> dict[str, Any]:
    """A part of a claim in one line: measured, what supports it, its verdict, and the published value's."""
    unit = formats.unit_of(part)
    size = next((size for size in claim.sizes if size.name == part.name), None)
    return {
        "name": words.clean(part.name),
        "measured": formats.estimate(part.estimate, part.interval, unit, part.level),
        "region": formats.region(part.region),
        "symbol": formats.SYMBOLS[part.verdict],
        "word": shown(part.verdict, claim.papers_own),
        "published": "" if size is None else formats.estimate(size.published, None, unit),
        "size": "" if size is None else size.verdict,
    }


def _not_measured(spec: Spec, data: Data, measured: Sequence[Point]) -> list[dict[str, str]]:
    """By experiment that was run, the published numbers beside which the run has none: how many of what, and where."""
    beside = {str(point.published) for point in measured}
    counts: dict[str, Counter[str]] = {name: Counter() for name in data.names()}
    for record in data.published.to_dict("records"):
        row = {str(column): value for column, value in record.items()}
        if row["experiment"] in counts and str(row) not in beside:
            measure = words.clean(row["measure"]).replace("_", " ")
            counts[row["experiment"]][f"{measure} ({_figure(spec, str(row['figure']))})"] += 1
    return [
        {"title": data.title(name, 200), "numbers": ", ".join(f"{n} of {what}" for what, n in own.items())}
        for name, own in counts.items()
        if own
    ]


def _not_run(root: Path, spec: Spec, data: Data) -> Iterator[dict[str, Any]]:
    """The experiments of the whole scale that were not run, with how many numbers are published of them."""
    for name in load_scale(root, spec.paper.id, spec.scale_name).scale.experiments:
        if name not in spec.scale.experiments:
            count = int((data.published["experiment"] == name).sum())
            yield {"title": spec.experiments[name].title, "count": count}
