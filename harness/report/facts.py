"""What the page says besides its figures, as plain dicts of text: header, outcome, claims."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from harness.claims.judge import chance_flips
from harness.report import formats, ran, summary
from harness.report.figures import Data

Facts = dict[str, Any]
SHOWN_IN = {
    "accuracy": "accuracy at k = 0",
    "accuracy_density": "accuracy against density",
    "accuracy_k": "accuracy against k",
    "instability_k": "instability against k",
    "distance": "distance",
    "angle": "angle",
    "interpolation": "error along the straight line",
}
OBTAINED = {
    "printed": "number printed in the paper",
    "digitised": "read off the paper's figure",
    "derived": "derived from the paper's numbers",
    "text": "stated in the paper's text",
    "remembered": "from memory, not checked against the paper",
}


def context(
    paper: Mapping[str, Any],
    scale: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]],
    data: Data,
    provenance: Mapping[str, Any],
) -> Facts:
    """Everything the templates need except the figures. Text is cleaned here and escaped by the templates."""
    ordered = formats.by_id(claims)
    judged = [c for c in ordered if formats.verdict_of(c) != "not tested"]
    return {
        "paper": _paper(paper),
        "scale": _scale(scale),
        "date": formats.clean(provenance.get("finished") or provenance.get("started"))[:10],
        "outcome": outcome(ordered, scale),
        "one_line": summary.one_line(ordered),
        "claims": [_claim(c) for c in ordered],
        "judged": len(judged),
        "chance": chance(ordered),
        "settings": [ran.setting(data, name, scale) for name in ran.listed(data, scale)],
        "lost": ran.lost(data),
        "beside": ran.beside(data),
        "stages": ran.stages(provenance),
        "network_time": ran.has_network_time(provenance),
        "run": ran.run(provenance),
        "images": ran.images(provenance),
        "checksums": ran.checksums(provenance),
        "packages": sorted((formats.clean(k), formats.clean(v)) for k, v in (provenance.get("packages") or {}).items()),
        "choices": [
            {k: formats.clean(c.get(k)) for k in ("choice", "value", "source")} for c in paper.get("choices") or []
        ],
    }


def originals(paper: Mapping[str, Any], data: Data, drawn: Collection[str]) -> list[Facts]:
    """Every figure and table of the paper: where this page draws it, for which experiments, what was published."""
    found = []
    for original in paper.get("figures") or []:
        measured = [name for name in original.get("experiments") or [] if name in data.names()]
        found.append(
            {
                **{key: formats.clean(original.get(key)) for key in ("figure", "shows", "note")},
                "drawn": [name for name in original.get("drawn_in") or [] if name in drawn and measured],
                "experiments": ", ".join(measured) or "none at this scale",
                "published": _available(data, formats.clean(original.get("published"))),
            }
        )
    return found


def _available(data: Data, figure: str) -> str:
    """What of a published figure the tables hold: values that can be compared, or less, in words."""
    rows = data.published
    rows = rows[(rows["figure"] == figure) | rows["figure"].str.startswith(f"{figure}-")]
    values = rows[rows["obtained"].isin(("printed", "digitised"))]
    if len(values):
        kinds = values["obtained"].value_counts().sort_index()
        return ", ".join(f"{n} values {formats.clean(kind)}" for kind, n in kinds.items())
    if len(rows):
        return f"not digitised; {len(rows)} numbers stand in the text"
    return "not digitised: its values were not available"


def link(url: Any) -> str:
    """The address if it is a web address, else nothing: a `javascript:` address never becomes a link."""
    text = formats.clean(url)
    return text if urlsplit(text).scheme in ("http", "https") else ""


def _paper(paper: Mapping[str, Any]) -> Facts:
    authors = paper.get("authors") or ""
    names = authors if isinstance(authors, str) else ", ".join(str(a) for a in authors)
    plain = {key: formats.clean(paper.get(key)) for key in ("id", "title", "arxiv", "year", "version")}
    return {
        **plain,
        "title": plain["title"] or plain["id"] or "paper",
        "authors": formats.clean(names),
        "url": link(paper.get("url")),
    }


def _scale(scale: Mapping[str, Any]) -> Facts:
    return {
        "name": formats.clean(scale.get("name")),
        "description": formats.clean(scale.get("description")),
        "judges": bool(scale.get("judges_claims", True)),
    }


def outcome(claims: Sequence[Mapping[str, Any]], scale: Mapping[str, Any]) -> str:
    """One sentence: how many claims the run could judge, and how they came out."""
    name = formats.clean(scale.get("name")) or "this"
    if not scale.get("judges_claims", True):
        return f"The {name} scale only shows that the pipeline works; no claim is judged."
    count = summary.counts(claims)
    judged = len(claims) - count["not tested"]
    if not judged:
        return f"None of {len(claims)} claims could be judged at the {name} scale."
    verdicts = ", ".join(f"{count[v]} {v}" for v in formats.VERDICTS[:3])
    return f"Of {len(claims)} claims, {judged} could be judged at the {name} scale: {verdicts}."


def chance(claims: Sequence[Mapping[str, Any]]) -> str:
    """About how many claims chance alone would support; empty where none was judged or it cannot be told."""
    try:
        expected = chance_flips(claims)
    except (KeyError, TypeError, ValueError):
        return ""  # claims written by hand may lack what the judge needs
    return formats.number(expected) if expected else ""


def _claim(claim: Mapping[str, Any]) -> Facts:
    source = claim.get("source") or {}
    parts = [part for part in claim.get("parts") or [] if isinstance(part, Mapping)]
    figure = str(claim.get("figure") or "none")
    obtained = formats.clean(source.get("obtained"))
    return {
        **{key: formats.clean(claim.get(key)) for key in ("id", "title", "statement", "reason", "note", "prediction")},
        "raw": claim,
        "verdict": formats.verdict_of(claim),
        "kind": formats.verdict_of(claim).replace(" ", "-"),
        "where": formats.clean(source.get("where")),
        "obtained": OBTAINED.get(obtained, obtained),
        "estimate": formats.headline(claim),
        "region": formats.region(claim.get("region")),
        "replicates": formats.number(claim.get("replicates")),
        "figure": figure,
        "figure_name": SHOWN_IN.get(figure, ""),
        "runs": [formats.clean(run) for run in claim.get("runs") or []],
        "published": [_published(p) for p in claim.get("published") or [] if isinstance(p, Mapping)],
        "parts": [_part(part) for part in parts],
    }


def _published(value: Mapping[str, Any]) -> Facts:
    error = formats.finite(value.get("error"))
    shown = formats.number(value.get("value"))
    if error is not None:
        shown += f" ± {formats.number(error)}"
    unit = formats.clean(value.get("unit"))
    joined = f"{shown}{'' if unit in ('%', '°', '×') else ' '}{unit}".strip()
    return {
        "quantity": formats.clean(value.get("quantity")),
        "value": joined,
        "obtained": formats.clean(value.get("obtained")),
    }


def _part(part: Mapping[str, Any]) -> Facts:
    values = part.get("values") if isinstance(part.get("values"), list) else []
    verdict = formats.verdict_of(part)
    return {
        "name": formats.clean(part.get("name")),
        "what": " of ".join(
            formats.clean(part.get(k)).replace("_", " ") for k in ("statistic", "measure") if part.get(k)
        ),
        "verdict": verdict,
        "kind": verdict.replace(" ", "-"),
        "reason": formats.clean(part.get("reason")),
        "estimate": formats.estimate(part),
        "region": formats.region(part.get("region")),
        "replicates": formats.number(part.get("replicates")),
        "per_replicate": ", ".join(
            "never" if formats.finite(v) is None else formats.number(v, False) for v in values or []
        ),
    }
