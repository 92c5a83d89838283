"""The figures draw the table's means: read back from their axes. And the small functions under them."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from rich.console import Console

from harness.report import estimates, evidence, figures, formats, one_line, pairs, rewinding, style, verdict_table
from tests.report import synthetic


@pytest.fixture(scope="module")
def data() -> figures.Data:
    table, curves = synthetic.make()
    return figures.Data.of(table, curves, synthetic.published(), synthetic.scale()["experiments"])


@pytest.fixture(autouse=True)
def _look() -> Iterator[None]:
    with style.look():
        yield


def line(figure: Figure | None, label: str, panel: int) -> np.ndarray:
    """y values of the line with a label, in a panel."""
    assert figure is not None
    found = [item for item in figure.axes[panel].lines if item.get_label() == label]
    assert len(found) == 1
    return np.asarray(found[0].get_ydata(), dtype=float)


def means(data: figures.Data, by: str, measure: str, **cell: Any) -> list[float]:
    """Mean over replicates of each replicate's mean: written out again, without the module under test."""
    rows = data.table[data.table["status"] == "ok"]
    for key, value in cell.items():
        rows = rows[rows[key] == value]
    return rows.groupby([by, "replicate"])[measure].mean().groupby(by).mean().tolist()


def test_accuracy_density(data: figures.Data) -> None:
    cell = {"row": "network", "experiment": "resnet20-standard", "branch": "imp", "k": 150}
    drawn = line(figures.accuracy_density(data), "imp k=150", 1)
    np.testing.assert_allclose(drawn, means(data, "level", "test_accuracy", **cell))


def test_accuracy_k(data: figures.Data) -> None:
    figure = rewinding.accuracy_k(data)
    for branch in figures.BRANCHES:
        cell = {"row": "network", "experiment": "resnet20-standard", "branch": branch, "level": 4}
        np.testing.assert_allclose(line(figure, branch, 1), means(data, "k", "test_accuracy", **cell))
    dense = {"row": "network", "experiment": "resnet20-standard", "level": 0}
    assert line(figure, "dense", 1)[0] == pytest.approx(means(data, "level", "test_accuracy", **dense, k=0)[0])


def test_dense_band_is_of_networks_trained_from_the_start(data: figures.Data) -> None:
    def centre(table: pd.DataFrame) -> float:
        ax = Figure().add_subplot()
        figures.dense_band(ax, figures.Data.of(table), "resnet20-standard")
        return float(np.asarray(ax.lines[0].get_ydata(), dtype=float)[0])

    copies = data.table.copy()
    copies.loc[(copies["level"] == 0) & (copies["k"] > 0), "test_accuracy"] = 10.0
    assert centre(copies) == centre(data.table)
    assert centre(copies[(copies["level"] > 0) | (copies["k"] > 0)]) == pytest.approx(10.0)


def test_instability_k(data: figures.Data) -> None:
    figure = rewinding.instability_k(data)
    for branch, level in (("dense", 0), ("imp", 4), ("random_prune", 4)):
        cell = {"row": "pair", "experiment": "resnet20-standard", "branch": branch, "level": level}
        cell["comparison"] = "data_order"
        np.testing.assert_allclose(line(figure, branch, 1), means(data, "k", "instability_test", **cell))


def test_distances(data: figures.Data) -> None:
    figure = pairs.distance_experiments(data)
    assert figure is not None
    cell = {"row": "pair", "experiment": "resnet20-low", "branch": "imp", "comparison": "pruning", "level": 4}
    wanted = means(data, "k", "distance", **cell)[0]
    drawn = [item.get_xdata() for item in figure.axes[1].lines if item.get_label() == "imp"]
    assert any(np.allclose(np.asarray(x, dtype=float), wanted) for x in drawn)
    text = " ".join(item.get_text() for item in figure.axes[2].texts)
    assert "×2.83" in text  # 58.6 / 20.7, the published ratio
    np.testing.assert_allclose(
        line(rewinding.distance_k(data), "imp", 1),
        means(
            data,
            "k",
            "distance",
            row="pair",
            experiment="resnet20-standard",
            branch="imp",
            level=4,
            comparison="data_order",
        ),
    )


def test_interpolation_peak_is_the_instability(data: figures.Data) -> None:
    figure = pairs.interpolation(data)
    titles = [ax.get_title(loc="left") for ax in figure.axes] if figure else []
    drawn = line(figure, "imp", next(i for i, t in enumerate(titles) if "standard" in t and t.endswith("k = 0")))
    cell = {"row": "pair", "experiment": "resnet20-standard", "branch": "imp", "level": 4, "comparison": "data_order"}
    peak = means(data, "k", "instability_test", **cell)[0]
    assert drawn.max() - drawn[[0, -1]].mean() == pytest.approx(peak, rel=0.01)


def test_no_figure_without_rows() -> None:
    empty = figures.Data.of(None)
    builders = (figures.accuracy_density, rewinding.accuracy_k, rewinding.instability_k, rewinding.distance_k)
    assert all(build(empty) is None for build in (*builders, pairs.distance_experiments, pairs.interpolation))


def test_published_never_shares_a_panel(data: figures.Data) -> None:
    figure = figures.accuracy_density(data)
    assert figure is not None
    tinted = [ax for ax in figure.axes if ax.get_facecolor()[:3] == pytest.approx(to_rgb(style.PUBLISHED_FACE))]
    assert len(tinted) == 1
    assert all("published" in " ".join(t.get_text() for t in ax.texts) for ax in tinted)


def test_style_leaves_matplotlib_as_it_was() -> None:
    import matplotlib

    with style.look():
        assert matplotlib.rcParams["text.parse_math"] is False
    with matplotlib.rc_context({"font.size": 3.0}):
        with style.look():
            pass
        assert matplotlib.rcParams["font.size"] == 3.0


def test_mean_interval() -> None:
    mean, low, high = estimates.mean_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6)
    assert estimates.mean_interval([5.0])[0] == 5.0
    assert math.isnan(estimates.mean_interval([5.0])[1])
    assert math.isnan(estimates.mean_interval([])[0])


def test_replicates_that_tie_have_an_interval_of_some_width() -> None:
    mean, low, high = estimates.mean_interval([5.0, 5.0, 5.0])
    assert mean == 5.0
    assert math.isnan(low)
    assert math.isnan(high)
    rows = [
        {"row": "network", "experiment": "e", "status": "ok", "replicate": r, "data_order": o, "test_accuracy": value}
        for r in range(3)
        for o, value in enumerate((97.5, 98.0))
    ]
    table = estimates.complete(pd.DataFrame(rows), estimates.COLUMNS)
    grid = estimates.grid_of(table, "e", "test_accuracy")
    assert grid == pytest.approx(0.5)
    assert estimates.grid_of(table, "e", "distance") == 0
    half = grid / 2 * (1 - 0.025 ** (1 / 3))  # two data orders a replicate: half the grid
    assert estimates.overall(table, "test_accuracy", grid) == pytest.approx((97.75, 97.75 - half, 97.75 + half, 3))


def test_replicates_are_clusters() -> None:
    rows = pd.DataFrame(
        {"replicate": [0, 0, 1], "k": 0, "density": 0.5, "test_accuracy": [90.0, 92.0, 95.0], "status": "ok"}
    )
    values = estimates.replicate_values(estimates.complete(rows, estimates.COLUMNS), ["k"], "test_accuracy")
    assert values["value"].tolist() == [91.0, 95.0]


def test_forest_shows_an_onset_never_reached() -> None:
    claim = next(c for c in synthetic.claims(synthetic.make()[0]) if c["id"] == "C16")
    figure = evidence.forest(claim)
    assert figure is not None
    assert [item.get_marker() for item in figure.axes[0].lines].count(">") == 2  # one replicate, and the interval's end
    never = {**claim["parts"][0], "estimate": None, "interval": [600, None]}
    assert evidence.forest({"parts": [never]}) is not None
    assert formats.estimate(never) == "never [600, ∞]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (-0.5, "−0.5"),
        (98.31, "98.3"),
        (1234.5, "1,234"),
        (0.001, "0.001"),
        ("x", "–"),
    ],
)
def test_numbers(value: Any, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("pair", "text"),
    [([None, 2], "≤ 2"), ([-0.5, None], "≥ −0.5"), ([-0.5, 0.5], "−0.5 to 0.5"), ([None, None], "–"), (None, "–")],
)
def test_regions(pair: Any, text: str) -> None:
    assert formats.region(pair) == text


def test_terminal_table() -> None:
    claims = synthetic.claims(synthetic.make()[0])
    claims[0]["title"] = "[red]not markup[/red]"
    console = Console(width=160)
    with console.capture() as capture:
        console.print(verdict_table(claims))
    text = capture.get()
    assert "[red]not markup[/red]" in text
    assert "✗ contradicted" in text
    assert one_line(claims) == "5 supported, 1 contradicted, 3 inconclusive, 24 not tested"
    assert one_line([{"verdict": "passed"}]) == "0 supported, 0 contradicted, 0 inconclusive, 1 not tested"
    assert one_line([]) == "0 supported, 0 contradicted, 0 inconclusive, 0 not tested"
