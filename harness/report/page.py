"""`build_report`: one self-contained page (index.html) and its Markdown twin (report.md with figures/*.svg).

Everything that comes from results is escaped: by Jinja's autoescape in HTML, by `words.escape_markdown` for every
expression in Markdown. The only markup passed through is the SVG that `style.to_svg` serialises and the glyphs.
Dates come from the provenance record alone, so the same results give the same bytes.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from harness.base import words
from harness.base.files import write_text
from harness.claims.document import VERDICTS, ClaimVerdict, shown
from harness.report import content, evidence, formats, style, summary
from harness.report.figures import Data, accuracy_density
from harness.report.league import league
from harness.report.networks import accuracy_experiments
from harness.report.onsets import onset_density
from harness.report.pairs import distance_experiments, interpolation
from harness.report.rewinding import accuracy_k, angle_k, distance_k, instability_k, train_accuracy_k

_SAFE_URL = re.compile(r"https?://[A-Za-z0-9./_~%?=&#:-]+")
TEMPLATES = Path(__file__).parent / "templates"


class Trusted(str):
    """Markdown of this module, which `_finish` does not escape."""


Builder = Callable[[Data], Any]
THRESHOLDS = {
    "stable_below": "Stable, shaded where instability is drawn: below {} points",
    "matching_within": "Matching: less than {} points below the dense network",
}
# key in claims' `figure`, file name, title (what to look for), caption, function that draws it; a threshold's name in
# braces stands for its sentence
FIGURES: tuple[tuple[str, str, str, str, Builder], ...] = (
    (
        "league",
        "league",
        "Methods side by side: what is left of the accuracy at each density?",
        "Means over replicates and their 95% t intervals, the best at the lowest density on top. Dashed: the dense "
        "network.",
        league,
    ),
    (
        "accuracy",
        "accuracy",
        "Accuracy at k = 0: is the subnetwork a winning ticket?",
        "Points above the mean of the dense network, whose accuracy stands on the left. At one density IMP's "
        "subnetwork and a random one, all from initialisation: a winning ticket lies at 0 or to its right.",
        accuracy_experiments,
    ),
    (
        "accuracy_density",
        "accuracy-density",
        "Accuracy against density: does the subnetwork stay on the dense network's band?",
        "Dashed line and band: the dense network. A ticket that matches stays on the band to the right; random pruning "
        "and random reinitialisation show what the density alone costs. At most three rewind iterations are drawn, "
        "first those compared with random subnetworks at most densities.",
        accuracy_density,
    ),
    (
        "accuracy_k",
        "accuracy-k",
        "Accuracy against k: how late must the weights be taken for IMP to match?",
        "The rewind iterations stand at equal steps, with their share of training below. Experiments that were run at "
        "one k only are left out.",
        accuracy_k,
    ),
    (
        "accuracy_k",
        "train-accuracy-k",
        "Training accuracy against k: from which k on does IMP fit its training samples?",
        "On training samples without augmentation; otherwise as the figure above.",
        train_accuracy_k,
    ),
    (
        "instability_k",
        "instability-k",
        "Instability against k: when do two data orders end in one linearly connected region?",
        "Highest error on the straight line between two copies minus the mean of its ends. {stable_below} The axis is "
        "linear up to 2 and logarithmic above.",
        instability_k,
    ),
    (
        "instability_k",
        "onset-density",
        "Onset against density: from which k on are networks stable, and from which do they match?",
        "Stable: from which k of its grid on a replicate's instability stays below the bound. Matching: the first k "
        "whose accuracy is near the replicate's own dense network. {stable_below} {matching_within} Lines are medians "
        "over replicates, small dots single ones; what is never reached on the grid stands above it. Densities that "
        "were run at fewer than three k are left out.",
        onset_density,
    ),
    (
        "distance",
        "distance",
        "Distance at k = 0: is IMP's subnetwork more stable than a random one?",
        "Data order: two data orders of one subnetwork. Pruning: the dense network against the subnetwork, same data "
        "order, over the weights that the mask keeps. Right of each row: random over IMP. The ratio, not the distance, "
        "can be held against the published one: distances depend on the network's size and the number of steps.",
        distance_experiments,
    ),
    (
        "distance",
        "distance-k",
        "Distance against k: do both fall, and IMP's faster?",
        "Each experiment at the density where most branches were trained; smaller is more stable. Later k leaves fewer "
        "steps in which to move apart.",
        distance_k,
    ),
    (
        "angle",
        "angle",
        "Angle at k = 0: the same comparison without the weights' scale",
        "Angle between the masked final weights; 90° means that they have nothing in common.",
        lambda data: distance_experiments(data, "angle"),
    ),
    ("angle", "angle-k", "Angle against k", "As the distances above, in degrees.", angle_k),
    (
        "interpolation",
        "interpolation",
        "Error along the straight line: a bump is a barrier",
        "Test error between the final weights of two data orders. Thin lines: replicates; thick: their mean. Dotted: "
        "the mean with BatchNorm statistics re-estimated at each point, where that differs.",
        interpolation,
    ),
)


def build_report(
    paper: dict[str, Any],
    scale: dict[str, Any],
    claims: list[ClaimVerdict],
    table: pd.DataFrame,
    curves: pd.DataFrame,
    published: pd.DataFrame,
    provenance: dict[str, Any],
    out: Path,
) -> None:
    """Write out/index.html, out/report.md and out/figures/*.svg.

    `claims` may come in any order; `table` and `curves` are the tidy tables (densities as shares, accuracies and errors
    in percent), `published` the rows of papers/<paper>/published. The page states empty tables, missing optional keys
    and diverged replicates. Raises HarnessError if the disk is full or read-only.
    """
    data = Data.of(table, curves, published, scale.get("experiments"), paper)
    claims = formats.by_id(claims)
    with style.look():
        figures = _figures(data)
        forests = [_forest(claim, number) for number, claim in enumerate(claims, 1)]
    context = content.page_content(paper, scale, claims, data, provenance)
    drawn = {figure["key"] for figure in figures}
    for claim, forest, section in zip(claims, forests, context["claims"], strict=True):
        section["forest"] = forest
        section["glyph"] = Markup(evidence.glyph(claim))
        section["figure_key"] = claim.figure if claim.figure in drawn else None
    context |= {
        "figures": figures,
        "originals": content.originals(paper, data, {figure["name"] for figure in figures}),
        "verdicts": VERDICTS,
        "symbols": formats.SYMBOLS,
        "counts": summary.counts(claims),
        "words": {verdict: shown(verdict, context["papers_own"]) for verdict in VERDICTS},
    }
    _write(Path(out), context, [*figures, *(forest for forest in forests if forest)])


def _write(out: Path, context: content.Content, figures: list[dict[str, Any]]) -> None:
    """Write the page, its Markdown twin and the figures. Remove figures of an earlier page."""
    pictures = {f"{figure['name']}.svg": figure["svg"] for figure in figures}
    for name, svg in pictures.items():
        write_text(out / "figures" / name, f"{svg}\n")
    write_text(out / "index.html", html().get_template("page.html.j2").render(context))
    write_text(out / "report.md", markdown().get_template("report.md.j2").render(context))
    # last, because the old Markdown refers to them until it is replaced
    for stale in set((out / "figures").glob("*.svg")) - {out / "figures" / name for name in pictures}:
        stale.unlink()


def _figures(data: Data) -> list[dict[str, Any]]:
    figures = []
    for key, name, title, caption, build in FIGURES:
        figure = build(data)
        if figure is not None:
            caption = _with_thresholds(caption, data)
            svg = style.to_svg(figure, name, title, caption)
            figures.append({"key": key, "name": name, "title": title, "caption": caption, "svg": Markup(svg)})
    return figures


def _with_thresholds(caption: str, data: Data) -> str:
    """The caption with a sentence for each threshold in braces; "" for a threshold that the paper does not give."""
    for name, phrase in THRESHOLDS.items():
        value, source = data.thresholds.get(name, (None, ""))
        sentence = "" if value is None else f"{phrase.format(words.number(value))} ({source})."
        caption = caption.replace(f"{{{name}}}", sentence)
    return words.clean(caption)


def _forest(claim: ClaimVerdict, number: int) -> dict[str, Any] | None:
    figure = evidence.forest(claim)
    if figure is None:
        return None
    estimates = [
        formats.estimate(part.estimate, part.interval, formats.unit_of(part), part.level) for part in claim.parts
    ]
    alt = "; ".join(
        f"{words.clean(part.name)}: {estimate}, {shown(part.verdict, claim.papers_own)}"
        for part, estimate in zip(claim.parts, estimates, strict=True)
    )
    name = f"claim-{number:02d}"
    title = f"Evidence for {claim.id}"
    return {"name": name, "title": title, "svg": Markup(style.to_svg(figure, name, title, alt))}


def html(folder: Path = TEMPLATES) -> Environment:
    """The environment of pages, which escapes every expression: a folder's templates, and the report's to include."""
    escape = select_autoescape(enabled_extensions=("html", "html.j2"), default=True, default_for_string=True)
    return _environment(folder, autoescape=escape)


def markdown(folder: Path = TEMPLATES) -> Environment:
    """The environment of Markdown templates, which escapes every expression."""
    environment = _environment(folder, autoescape=False, finalize=_finish)
    environment.filters |= {
        "trusted": Trusted,
        "anchor": lambda claim: Trusted(f'<a id="{claim}"></a>{claim}'),
        "link": lambda claim: Trusted(f"[{claim}](#{claim})"),
        "urlize_markdown": lambda url: Trusted(f"<{url}>") if _SAFE_URL.fullmatch(url) else url,
    }
    return environment


def _finish(value: Any) -> str:
    return value if isinstance(value, Trusted) else words.escape_markdown(value)


def _environment(folder: Path, **options: Any) -> Environment:
    loader = FileSystemLoader([folder, TEMPLATES])
    environment = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, **options)
    filters: Sequence[Callable[..., str]] = (words.number, words.percent, words.duration, formats.region)
    environment.filters |= {f.__name__: f for f in filters}
    return environment
