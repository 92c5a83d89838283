"""The power of every claim's direction in the world as published, at each scale: ``benchmarks/results/power.md``.

Result: at the paper scale each claim whose numbers are published is supported in 90% of runs or more if every value and
spread is as published. ``harness plan`` prints the same for one scale.

Run: ``python -m benchmarks.power`` from the root of the repository; it writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.base.paths import checkout
from harness.claims.power import power
from harness.paper import load_spec

SCALES = ("mini", "wide", "paper")
RESULT = Path(__file__).parent / "results" / "power.md"


def rows(paper: str) -> Iterator[str]:
    """A Markdown table of a paper's claims."""
    specs = [load_spec(checkout(), paper, scale) for scale in SCALES]
    yield f"\n## {specs[0].paper.title}\n"
    yield f"| claim | | {' | '.join(SCALES)} |"
    yield f"|---|---|{'---:|' * len(SCALES)}"
    for claim in specs[0].claims:
        cells = []
        for spec in specs:
            entry = claim.scales.get(spec.scale_name)
            replicates = {name: setting.replicates for name, setting in spec.scale.experiments.items()}
            found = power(entry, replicates, spec.published) if entry else None
            share = "-" if found is None or found.share is None else f"{found.share:.0%}"
            cells.append("" if found is None or not found.parts else f"{share} ({found.known} of {found.parts})")
        yield f"| {claim.id} | {claim.title} | {' | '.join(cells)} |"


def main() -> None:
    lines = [
        "# Power in the world as published",
        "",
        "How often a claim's direction is supported if every value and spread is as published, with the scale's",
        "replicates; in brackets the parts whose cells have published numbers, which alone are simulated. At the mini",
        "and wide scales the world is still the paper's, so it tells of the number of replicates, not of the task.",
        "Written by `python -m benchmarks.power`.",
        *(row for paper in ("stabilizing-lth", "linear-mode-connectivity") for row in rows(paper)),
    ]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
