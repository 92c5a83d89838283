"""How often each interval calls a part supported whose true value lies at the edge of its region, and its power.

Result (``benchmarks/results/interval_level.md``): the harness's intervals err in at most 5% of tables up to skewness
0.7, and in at most 5.2% up to 1.4 where networks of one replicate are compared. At skewness 1.4 the mean of one
network's values errs in 8%, the best of three parts in 6%, a contrast of experiments that spread 1:3 in 7%, as does a
network that spreads three times as widely as the rest: all towards the long tail, and so does any t interval.
Two-valued instability, as a median, errs in at most 3.3%; a t interval of its mean in 39 to 73%. No interval from three
to nine replicates can tell of rare outliers (one replicate in ten or fewer).

Run: ``python -m benchmarks.interval_level [--tables 20000] [--write]`` from the root of the repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.simulation import (
    NOISES,
    SETTINGS,
    STRONG_NOISES,
    Draw,
    Method,
    among,
    bootstrap_interval,
    harness_interval,
    percent,
    plain_t_interval,
    pooled_interval,
    print_or_write,
    two_valued,
    wrong_support,
)

REPLICATES = (3, 5, 9)
ALL_NOISES = NOISES | STRONG_NOISES
METHODS: dict[str, Method] = {
    "harness": harness_interval,
    "t": plain_t_interval,
    "pooled": pooled_interval,
    "bootstrap": bootstrap_interval,
}
RESULT = Path(__file__).parent / "results" / "interval_level.md"
#: beyond what the harness's intervals hold: measured, not tested
HARDER: dict[str, tuple[Draw, int]] = {
    "among 3 cells, spread 3:1": (among(3, 3), 3),
    "among 6 cells, spread 3:1": (among(6, 3), 3),
}


def rows(tables: int, seed: int) -> Iterator[str]:
    """The Markdown page."""
    yield "# Wrong `supported` verdicts, in percent"
    yield ""
    yield f"The true value lies at the region's edge; {tables} simulated tables a cell (bootstrap: at most 4,000)."
    yield "Bold: over 5%."
    yield "Written by `python -m benchmarks.interval_level --write`."
    yield ""
    columns = [f"{method}, n = {n}" for method in METHODS for n in REPLICATES]
    yield f"| statistic | noise | {' | '.join(columns)} |"
    yield f"|---|---|{'---:|' * len(columns)}"
    for name, (draw, fewest) in (SETTINGS | HARDER).items():
        # steps and onsets draw their values without the noise
        for noise in ("normal",) if name.startswith(("a step", "onset", "two-valued")) else ALL_NOISES:
            cells = [
                _rate(name, draw, method, n, fewest, noise, tables, seed) for method in METHODS for n in REPLICATES
            ]
            yield f"| {name} | {noise} | {' | '.join(cells)} |"
    yield ""
    yield "# Two-valued instability taken as a mean"
    yield ""
    yield "One replicate in ten at 40 points, so the mean is 4.5 points: how often a t interval puts it at 2 or less."
    yield ""
    yield "| | n = 3 | n = 5 | n = 9 |"
    yield "|---|---:|---:|---:|"
    means = [
        percent(wrong_support(two_valued(0.1), n, NOISES["normal"], tables, seed, plain_t_interval)) for n in REPLICATES
    ]
    yield f"| t interval of the mean | {' | '.join(means)} |"
    yield ""
    yield "# Power, in percent"
    yield ""
    yield "A paired difference of one or two of its standard deviations, normal noise, cells that spread alike."
    yield ""
    yield "| cells of the setting | effect | n | t | harness | pooled |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for cells in (2, 3, 6):
        for effect in (1, 2):
            for n in REPLICATES:
                methods = (plain_t_interval, harness_interval, pooled_interval)
                power = [wrong_support(among(cells, 1, effect), n, NOISES["normal"], tables, seed, m) for m in methods]
                yield f"| {cells} | {effect} sd | {n} | {' | '.join(f'{100 * p:.0f}' for p in power)} |"


def _rate(name: str, draw: Draw, method: str, n: int, fewest: int, noise: str, tables: int, seed: int) -> str:
    median = name.startswith(("onset", "two-valued"))
    unfit = {"bootstrap": median, "pooled": not name.startswith("among"), "t": name.startswith("onset")}
    if unfit.get(method) or (n < fewest and method == "harness"):
        return "-"
    tables = min(tables, 4000) if method == "bootstrap" else tables
    return percent(wrong_support(draw, n, ALL_NOISES[noise], tables, seed, METHODS[method]))


if __name__ == "__main__":
    print_or_write(rows, RESULT, __doc__)
