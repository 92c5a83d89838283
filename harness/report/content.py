"""The page's content besides its figures, as the templates read it: header, outcome, claims."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from harness.base import words
from harness.claims.document import ClaimVerdict, PartVerdict, SizeVerdict, shown
from harness.claims.judge import chance_flips, repeated
from harness.paper.claims import Figure, Obtained, PublishedValue
from harness.paper.load import NAME
from harness.paper.models import reference
from harness.report import formats, league, run_details, summary
from harness.report.figures import Data

Content = dict[str, Any]
#: the text of a claim's link to its figure
SHOWN_IN: dict[Figure, str] = {
    "accuracy": "accuracy at k = 0",
    "accuracy_density": "accuracy against density",
    "accuracy_k": "accuracy against k",
    "instability_k": "instability against k",
    "distance": "distance",
    "angle": "angle",
    "none": "",
}
OBTAINED: dict[Obtained, str] = {
    "printed": "number printed in the paper",
    "digitised": "read off the paper's figure",
    "derived": "derived from the paper's numbers",
    "text": "stated in the paper's text",
    "remembered": "from memory, not checked against the paper",
}


def page_content(
    paper: Mapping[str, Any],
    scale: Mapping[str, Any],
    claims: Sequence[ClaimVerdict],
    data: Data,
    provenance: Mapping[str, Any],
) -> Content:
    """Everything the templates need except the figures. Text is cleaned here and escaped by the templates.

    The claims keep their order.
    """
    return {
        "paper": _paper(paper),
        "scale": _scale(scale),
        "frozen": _frozen(scale, provenance),
        "looks": words.clean(provenance.get("looks")),
        "moves": [words.clean(text) for text in scale.get("moves") or []],
        "revision": words.clean(provenance.get("code_revision"))[:10],
        "date": words.clean(provenance.get("finished") or provenance.get("started"))[:10],
        "outcome": outcome(claims, scale, data, provenance),
        "one_line": summary.one_line(claims),
        "claims": [_claim(claim) | {"command": command(claim, paper, scale)} for claim in claims],
        "judged": sum(claim.judged for claim in claims),
        "chance": chance(claims),
        "power": summary.power(claims),
        "repeated": [{"id": name, "of": " and ".join(others)} for name, others in repeated(claims).items()],
        "papers_own": all(claim.papers_own for claim in claims),
        "settings": [run_details.setting(data, name, scale) for name in run_details.experiment_names(data, scale)],
        "lost_networks": run_details.lost_networks(data),
        "league": league.content(data),
        "published_and_measured": run_details.published_and_measured(data),
        "stages": run_details.stage_totals(provenance),
        "network_time": run_details.has_network_time(provenance),
        "run": run_details.run_and_hardware(provenance),
        "images": run_details.container_images(provenance),
        "checksums": run_details.checksums(provenance),
        "packages": sorted((words.clean(k), words.clean(v)) for k, v in (provenance.get("packages") or {}).items()),
        "choices": [
            {k: words.clean(c.get(k)) for k in ("choice", "value", "source")} for c in paper.get("choices") or []
        ],
    }


def originals(paper: Mapping[str, Any], data: Data, drawn: Collection[str]) -> list[Content]:
    """Every figure and table of the paper: its figures on this page, their experiments, and the published values."""
    listing = []
    for original in paper.get("figures") or []:
        measured = [name for name in original.get("experiments") or [] if name in data.names()]
        listing.append(
            {
                **{key: words.clean(original.get(key)) for key in ("figure", "shows", "note")},
                "drawn": [name for name in original.get("drawn_in") or [] if name in drawn and measured],
                "experiments": ", ".join(measured) or "none at this scale",
                "published": _available(data, words.clean(original.get("published"))),
            }
        )
    return listing


def _available(data: Data, figure: str) -> str:
    """The published values of a figure in words: how many can be compared, and how they were obtained."""
    rows = data.published
    rows = rows[(rows["figure"] == figure) | rows["figure"].str.startswith(f"{figure}-")]
    values = rows[rows["obtained"].isin(("printed", "digitised"))]
    if len(values):
        kinds = values["obtained"].value_counts().sort_index()
        return ", ".join(f"{n} values {words.clean(kind)}" for kind, n in kinds.items())
    if len(rows):
        return f"not digitised; {len(rows)} numbers stand in the text"
    return "not digitised: its values were not available"


def link(url: Any) -> str:
    """The address if it is a web address, else "": a `javascript:` address never becomes a link."""
    text = words.clean(url)
    return text if urlsplit(text).scheme in ("http", "https") else ""


def _paper(paper: Mapping[str, Any]) -> Content:
    authors = paper.get("authors") or ""
    names = authors if isinstance(authors, str) else ", ".join(str(a) for a in authors)
    texts = {key: words.clean(paper.get(key)) for key in ("id", "title", "arxiv", "doi", "year", "version")}
    return {
        **texts,
        "reference": reference(texts["arxiv"], texts["doi"]),
        "title": texts["title"] or texts["id"] or "paper",
        "authors": words.clean(names),
        "url": link(paper.get("url")),
    }


def _scale(scale: Mapping[str, Any]) -> Content:
    return {
        "name": words.clean(scale.get("name")),
        "description": words.clean(scale.get("description")),
        "chosen": words.clean(scale.get("chosen")),
        "judges": bool(scale.get("judges_claims", True)),
    }


def _frozen(scale: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """When the regions were frozen: "on 2026-11-30, after this run began"."""
    dates = [words.clean(date) for date in scale.get("frozen") or []]
    if not dates:
        return ""
    began = words.clean(provenance.get("started"))[:10]
    after = ", after this run began" if began and dates[-1] > began else ""
    return f"{'on' if len(dates) == 1 else 'from'} {' to '.join(dict.fromkeys((dates[0], dates[-1])))}{after}"


def outcome(claims: Sequence[ClaimVerdict], scale: Mapping[str, Any], data: Data, provenance: Mapping[str, Any]) -> str:
    """One sentence: how many claims the run could judge, and how they came out."""
    name = words.clean(scale.get("name")) or "this"
    if not scale.get("judges_claims", True):
        networks, stages = int((data.table["row"] == "network").sum()), len(provenance.get("stages") or {})
        if data.study:
            return f"A comparison of methods, which makes no claim: {networks} networks in {stages} stages."
        return f"The pipeline works: {networks} networks in {stages} stages. The {name} scale judges no claim."
    count = summary.counts(claims)
    judged = len(claims) - count["not tested"]
    if not judged:
        return f"None of {len(claims)} claims could be judged at the {name} scale."
    verdicts = summary.one_line([claim for claim in claims if claim.judged]).replace(", 0 not tested", "")
    return f"Of {len(claims)} claims, {judged} could be judged at the {name} scale: {verdicts}."


def command(claim: ClaimVerdict, paper: Mapping[str, Any], scale: Mapping[str, Any]) -> str:
    """The command that reproduces a judged claim alone."""
    names = [words.clean(content.get(key)) for content, key in ((paper, "id"), (scale, "name"))]
    if not claim.judged or not all(NAME.fullmatch(name) for name in names):
        return ""
    return f"harness reproduce --paper {names[0]} --scale {names[1]} --claims {claim.id}"


def values_csv(claim: ClaimVerdict) -> str:
    """The numbers behind a claim's figure as CSV: each part's estimate and bounds, and its value in each replicate."""
    columns = ("part", "verdict", "estimate", "low", "high", "region_low", "region_high", "replicate_values")
    rows: list[tuple[str, ...]] = [columns]
    for part in claim.parts:
        values = " ".join("never" if value is None else repr(value) for value in part.values)
        numbers = (part.estimate, *(part.interval or (None, None)), *part.region)
        rows.append((words.clean(part.name), part.verdict, *("" if n is None else repr(n) for n in numbers), values))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def chance(claims: Sequence[ClaimVerdict]) -> str:
    """About how many claims chance alone would support; empty if none was judged."""
    known = repeated(claims)
    expected = chance_flips(claim for claim in claims if claim.id not in known)
    return words.number(expected) if expected else ""


def _claim(claim: ClaimVerdict) -> Content:
    texts = ("title", "statement", "reason", "note", "prediction")
    return {
        **{name: words.clean(getattr(claim, name)) for name in texts},
        "id": claim.id,
        "verdict": claim.verdict,
        "word": claim.word,
        "kind": formats.css_class(claim.verdict),
        "size": claim.size or "",
        "sizes": [_size(size) for size in claim.sizes],
        "where": words.clean(claim.source.where),
        "obtained": OBTAINED[claim.source.obtained],
        "quotation": words.clean(claim.source.quotation),
        "estimate": formats.headline(claim),
        "region": formats.region(claim.region),
        "replicates": words.number(claim.replicates),
        "robustness": formats.robustness(claim),
        "fragile": bool(claim.fragile),
        "held": f"{sum(p.verdict == 'supported' for p in claim.parts)} of {len(claim.parts)}"
        if claim.parts[1:]
        else "",
        "csv": f"data:text/csv;charset=utf-8,{quote(values_csv(claim))}" if claim.judged and claim.parts else "",
        "needs": formats.needs(claim),
        "figure": claim.figure,
        "figure_name": SHOWN_IN[claim.figure],
        "runs": [words.clean(run) for run in claim.runs],
        "published": [_published(value) for value in claim.published],
        "parts": [_part(part, claim) for part in claim.parts],
    }


def _size(size: SizeVerdict) -> Content:
    unit = formats.unit_of(size)
    return {
        "name": words.clean(size.name),
        "verdict": size.verdict,
        "estimate": formats.estimate(size.estimate, None, unit),
        "published": formats.estimate(size.published, None, unit),
        "expected": formats.interval(size.expected),
        "z": words.number(round(size.z, 1)),
        "ratio": words.number(size.estimate / size.published) if size.published else words.NOTHING,
    }


def _published(value: PublishedValue) -> Content:
    shown = words.number(value.value)
    if value.error is not None:
        shown += f" ± {words.number(value.error)}"
    unit = words.clean(value.unit)
    return {
        "quantity": words.clean(value.quantity),
        "value": f"{shown}{'' if unit in ('%', '°', '×') else ' '}{unit}".strip(),
        "obtained": value.obtained,
    }


def _part(part: PartVerdict, claim: ClaimVerdict) -> Content:
    return {
        "name": words.clean(part.name),
        "what": " of ".join(words.clean(text).replace("_", " ") for text in (part.statistic, part.measure)),
        "verdict": part.verdict,
        "word": shown(part.verdict, claim.papers_own),
        "kind": formats.css_class(part.verdict),
        "reason": words.clean(part.reason),
        "estimate": formats.estimate(part.estimate, part.interval, formats.unit_of(part), part.level),
        "beside": formats.beside(part),
        "region": formats.region(part.region),
        "replicates": words.number(part.replicates),
        "per_replicate": ", ".join("never" if value is None else words.number(value, False) for value in part.values),
    }
