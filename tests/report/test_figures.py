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

from harness.base import words
from harness.report import (
    estimates,
    evidence,
    figures,
    formats,
    networks,
    one_line,
    onsets,
    pairs,
    rewinding,
    style,
    verdict_table,
)
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
    for branch in ("imp", "random_prune", "random_reinit"):
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


def test_an_experiment_without_pairs_has_no_interpolation(data: figures.Data) -> None:
    """One data order of everything, as of a network that is only pruned: no pair at the level that is drawn."""
    lone = (data.table["experiment"] == "lenet") & (data.table["comparison"] == "data_order")
    cells = pairs.interpolation_cells(figures.Data.of(data.table[~lone], data.curves))
    assert {name for name, *_ in cells} == set(synthetic.SETTINGS) - {"lenet"}


def test_train_accuracy_k(data: figures.Data) -> None:
    figure = rewinding.train_accuracy_k(data)
    cell = {"row": "network", "experiment": "resnet20-standard", "branch": "imp", "level": 4}
    np.testing.assert_allclose(line(figure, "imp", 1), means(data, "k", "train_accuracy", **cell))


GRID = (0, 10, 20, 40)
# by level: instability over the grid, and points of accuracy below the dense network, of each replicate
INSTABILITY: dict[int, list[tuple[float, ...]]] = {
    0: [(50, 40, 30, 1.9), (50, 1, 1, 1), (50, 40, 1, 1)],
    1: [(50, 1, 1, 1), (50, 1, 5, 1), (1, 1, 1, 1)],  # the second settles at the last k alone
    2: [(50, 50, 50, 50), (50, 50, 50, 2.0), (50, 1, 1, 1)],  # the bound itself is not below it
}
LOST: dict[int, list[tuple[float, ...]]] = {
    1: [(0, 0, 0, 0), (1, 0.1, 0.5, 0.5), (-1, 0, 0, 0)],
    2: [(1, 1, 0, 3), (1, 1, 1, 1), (1, 1, 1, 1)],
}


def onset_table() -> pd.DataFrame:
    """Three replicates whose onsets are plain to see; two pairs of each network, whose mean counts."""
    common = {"experiment": "e", "status": "ok"}
    rows: list[dict[str, Any]] = []
    for level, replicates in INSTABILITY.items():
        cell = common | {"level": level, "density": 0.8**level, "branch": "imp" if level else "dense"}
        for r, values in enumerate(replicates):
            for k, value in zip(GRID, values, strict=True):
                pair = cell | {"row": "pair", "comparison": "data_order", "replicate": r, "k": k}
                rows += [pair | {"instability_test": value + shift} for shift in (-0.5, 0.5)]
    for r in range(3):
        dense = {"row": "network", "level": 0, "branch": "dense", "density": 1.0, "replicate": r, "k": 0}
        rows.append(common | dense | {"test_accuracy": 90.0 + r, "steps": 100})
        for level, lost in LOST.items():
            cell = common | {"row": "network", "level": level, "branch": "imp", "density": 0.8**level, "replicate": r}
            rows += [
                cell | {"k": k, "test_accuracy": 90.0 + r - x, "steps": 100} for k, x in zip(GRID, lost[r], strict=True)
            ]
    return pd.DataFrame(rows)


BOUNDS = {"stable_below": {"value": 2, "source": "s. 3"}, "matching_within": {"value": 0.2, "source": "Fig. 9"}}


def onset_rows() -> pd.DataFrame:
    rows = [
        {"figure": "fig9", "experiment": "e", "branch": "imp", "density": d, "measure": "stable_k", "value": k}
        for d, k in ((0.8, 10), (0.64, 20), (0.512, 60))
    ]
    rows.append(rows[0] | {"figure": "section 3", "value": 1000})  # one number in a sentence is no curve
    return pd.DataFrame(rows).assign(k_unit="step", k=np.nan, error=np.nan)


def test_onsets_are_those_of_each_replicate() -> None:
    data = figures.Data.of(onset_table(), paper=BOUNDS)
    stable, matching = onsets.KINDS
    found = onsets.onsets(data, stable, "e")
    got = {(b, round(d, 2)): list(g["k"]) for (b, d), g in found.groupby(["branch", "density"])}
    never = math.inf
    assert got == {("dense", 1.0): [40, 10, 20], ("imp", 0.8): [10, 40, 0], ("imp", 0.64): [never, never, 10]}
    found = onsets.onsets(data, matching, "e")
    got = {(b, round(d, 2)): list(g["k"]) for (b, d), g in found.groupby(["branch", "density"])}
    assert got == {("imp", 0.8): [0, 10, 0], ("imp", 0.64): [20, never, never]}
    # a replicate that lacks a k has no onset, and a grid of two k none at all
    table = onset_table()
    lost = table[~((table["replicate"] == 0) & (table["k"] == 10) & (table["row"] == "pair"))]
    here = onsets.onsets(figures.Data.of(lost, paper=BOUNDS), stable, "e")
    assert set(here["replicate"]) == {1, 2}
    few = table[table["k"].isin([0, 10])]
    assert onsets.onsets(figures.Data.of(few, paper=BOUNDS), stable, "e").empty


def test_onset_density_draws_medians_and_the_published_curve() -> None:
    table, rows = onset_table(), onset_rows()
    figure = onsets.onset_density(figures.Data.of(table, None, rows, {"e": {}}, BOUNDS))
    assert figure is not None
    assert len(figure.axes) == 4  # stable and matching, measured and published
    top = figure.axes[0]
    assert [text.get_text() for text in top.get_yticklabels()] == ["0", "10", "20", "40", "never"]
    np.testing.assert_allclose(line(figure, "imp", 0), [1, 4])  # k = 10, never
    np.testing.assert_allclose(line(figure, "imp", 1), [0, 1, 2])  # the published, in its own panel
    np.testing.assert_allclose(line(figure, "imp", 2), [0, 4])
    own = {"network": "n", "data": "d", "recipe": {"steps": 100}}
    under = onsets.onset_density(figures.Data.of(table, None, rows, {"e": own}, BOUNDS | {"networks": {"x": own}}))
    assert under is not None
    assert len(under.axes) == 2
    np.testing.assert_allclose(line(under, "under", 0), [1, 2, 4])  # k = 60 stands above 40
    assert onsets.onset_density(figures.Data.of(table)) is None  # a paper without bounds


def test_the_stable_range_is_the_papers(data: figures.Data) -> None:
    def named(paper: dict[str, Any]) -> set[str]:
        given = figures.Data.of(data.table, data.curves, None, synthetic.scale()["experiments"], paper)
        figure = rewinding.instability_k(given)
        assert figure is not None
        return {text.get_text() for ax in figure.axes for text in ax.texts}

    assert named({}) == set()
    assert named({"stable_below": {"value": 5, "source": "here"}}) == {"stable below 5"}


def test_the_share_of_training_is_of_the_dense_run() -> None:
    """Copies that train all steps from a snapshot make no training longer."""
    table = onset_table().assign(data_order=0)
    copies = table[(table["row"] == "network") & (table["level"] == 0)].assign(k=40, data_order=1)
    both = estimates.complete(pd.concat([table, copies], ignore_index=True), estimates.COLUMNS)
    assert estimates.total_steps(both, "e") == 100
    assert estimates.total_steps(both[both["level"] > 0], "e") is None


def test_published_curves_of_two_figures_stay_two() -> None:
    """A table's value at k = 0 is no point of a figure's curve, which has another there."""
    table, curves = synthetic.make()
    experiments = synthetic.scale()["experiments"]
    rows = (
        synthetic.published().iloc[:3].assign(figure="fig7", k=[0, 50, 150], density=0.1678, value=[88.0, 89.0, 90.0])
    )
    rows = pd.concat([rows, rows.iloc[:1].assign(figure="table2", value=87.0)], ignore_index=True)
    own = {key: experiments["resnet20-standard"][key] for key in ("network", "data", "recipe")}
    for paper in ({}, {"networks": {"a": own}}):
        figure = rewinding.accuracy_k(figures.Data.of(table, curves, rows, experiments, paper))
        assert figure is not None
        lines = [np.asarray(i.get_ydata(), dtype=float).tolist() for ax in figure.axes for i in ax.lines]
        assert [88.0, 89.0, 90.0] in lines
        assert [87.0] in lines


def test_no_figure_without_rows() -> None:
    empty = figures.Data.of(None, paper=BOUNDS)
    builders = (
        networks.accuracy_experiments,
        figures.accuracy_density,
        rewinding.accuracy_k,
        rewinding.train_accuracy_k,
        rewinding.instability_k,
        rewinding.distance_k,
        onsets.onset_density,
    )
    assert all(build(empty) is None for build in (*builders, pairs.distance_experiments, pairs.interpolation))


def test_published_never_shares_a_panel(data: figures.Data) -> None:
    figure = figures.accuracy_density(data)
    assert figure is not None
    tinted = [ax for ax in figure.axes if ax.get_facecolor()[:3] == pytest.approx(to_rgb(style.PUBLISHED_FACE))]
    assert len(tinted) == 1
    assert all("published" in " ".join(t.get_text() for t in ax.texts) for ax in tinted)


def at_the_papers_own_scale(epochs: int | None = None) -> figures.Data:
    """The made-up run with its standard ResNet-20 declared to be the paper's; `epochs` long if rewinds count them."""
    table, curves = synthetic.make()
    experiments, published = synthetic.scale()["experiments"], synthetic.published()
    own = experiments["resnet20-standard"]
    own["recipe"] = own["recipe"] | {"learning_rate": 0.2}
    row = {key: own[key] for key in ("network", "data", "recipe")} | {"epochs": epochs}
    if epochs:
        published.loc[published["experiment"] == "resnet20-standard", "k_unit"] = "epoch"
        published["k"] = published["k"].replace({500: 150, 2000: 150}) / (3000 / epochs)
    return figures.Data.of(table, curves, published, experiments, {"networks": {"a": row}})


def test_published_lies_under_measured_where_the_recipe_is_the_papers() -> None:
    own = at_the_papers_own_scale()
    assert own.own == {"resnet20-standard"}
    figure = figures.accuracy_density(own)
    assert figure is not None
    assert len(figure.axes) == len(synthetic.SETTINGS)  # no panel of its own
    drawn = [item for item in figure.axes[1].lines if item.get_linestyle() == ":" and len(item.get_xydata()) > 2]
    values = [np.asarray(item.get_ydata(), dtype=float)[0] for item in drawn]
    assert sorted(values) == [90.6, 90.9]
    assert not [item for item in figure.axes[0].lines if item.get_linestyle() == ":"]  # LeNet's recipe is another
    over = rewinding.instability_k(own)
    assert over is not None
    under = [item for ax in over.axes for item in ax.lines if item.get_label() == "under"]
    assert [np.asarray(item.get_ydata(), dtype=float).tolist() for item in under] == [[81.1]]  # k = 0 is the common one


def test_epochs_become_steps_where_the_recipe_is_the_papers() -> None:
    rows = at_the_papers_own_scale(epochs=30).published
    rows = rows[(rows["experiment"] == "resnet20-standard") & (rows["figure"] == "Fig. 5")]
    assert set(rows["k"]) == {0, 150}
    assert set(rows["k_unit"]) == {"step"}
    table, curves = synthetic.make()
    other = figures.Data.of(table, curves, synthetic.published().assign(k_unit="epoch"), {}, {"networks": {}})
    assert set(other.published["k_unit"]) == {"epoch"}


def test_accuracy_of_every_network_stands_against_its_dense_one(data: figures.Data) -> None:
    figure = networks.accuracy_experiments(data)
    assert figure is not None
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    for y, name in enumerate(synthetic.SETTINGS):
        cell = {"row": "network", "experiment": name, "k": 0}
        (dense,) = means(data, "level", "test_accuracy", **cell, level=0)
        assert f"dense {words.number(dense, False)}%" in labels[y]
        for branch, level in (("dense", 0), ("imp", 5 if name == "lenet" else 4)):
            (wanted,) = means(data, "level", "test_accuracy", **cell, branch=branch, level=level)
            drawn = [item for item in figure.axes[0].lines if item.get_label() == branch]
            (here,) = [item for item in drawn if round(float(np.asarray(item.get_ydata())[0])) == y]
            assert float(np.asarray(here.get_xdata(), dtype=float)[0]) == pytest.approx(wanted - dense)
    assert networks.accuracy_experiments(figures.Data.of(None)) is None


def test_published_accuracies_lie_beside_or_under_the_measured() -> None:
    rows = synthetic.published().iloc[:2].assign(figure="Fig. 3", k=0, obtained="printed", value=[90.5, 87.7])
    rows = rows.assign(branch=["dense", "imp"], density=[1.0, 0.1678])
    table, curves = synthetic.make()
    experiments = synthetic.scale()["experiments"]
    beside = networks.accuracy_experiments(figures.Data.of(table, curves, rows, experiments))
    assert beside is not None
    assert len(beside.axes) == 2
    assert "(published 90.5)" in beside.axes[0].get_yticklabels()[1].get_text()
    own = {key: experiments["resnet20-standard"][key] for key in ("network", "data", "recipe")}
    under = networks.accuracy_experiments(figures.Data.of(table, curves, rows, experiments, {"networks": {"a": own}}))
    assert under is not None
    (ax,) = under.axes
    drawn = [float(np.asarray(i.get_xdata(), dtype=float)[0]) for i in ax.lines if i.get_linestyle() == ":"]
    assert drawn == pytest.approx([0.0, 87.7 - 90.5])


def test_snip_is_drawn_over_densities() -> None:
    table, _ = synthetic.make()
    snip = table[(table["branch"] == "random_reinit") & (table["experiment"] == "resnet20-low")]
    snip = snip.assign(branch="snip", run=snip["run"] + "s")
    figure = figures.accuracy_density(figures.Data.of(pd.concat([table, snip], ignore_index=True)))
    panel = [i for i, ax in enumerate(figure.axes if figure else []) if "low" in ax.get_title(loc="left")]
    expected = snip[snip["status"] == "ok"].groupby("level")["test_accuracy"].mean()
    np.testing.assert_allclose(line(figure, "snip k=0", panel[0]), expected)


def test_the_rewind_iterations_drawn_are_those_with_most_baselines() -> None:
    rows = [
        {"k": k, "level": level, "branch": branch}
        for k, levels in ((0, 4), (100, 1), (250, 1), (500, 4), (1000, 1))
        for level in range(1, levels + 1)
        for branch in ("imp", "random_reinit")
    ]
    assert figures.told_apart(pd.DataFrame(rows)) == [0, 500]  # a single level is no curve
    more = [{"k": k, "level": level, "branch": "imp"} for k in (100, 250, 1000) for level in (2, 3)]
    assert figures.told_apart(pd.DataFrame(rows + more)) == [0, 500, 1000]
    alike = pd.DataFrame([{"k": k, "level": 1, "branch": "imp"} for k in (0, 1, 2, 3, 4)])
    assert figures.told_apart(alike) == [0, 2, 4]


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
    claim = next(c for c in synthetic.claims(synthetic.make()[0]) if c.id == "C16")
    figure = evidence.forest(claim)
    assert figure is not None
    assert [item.get_marker() for item in figure.axes[0].lines].count(">") == 2  # one replicate, and the interval's end
    never = claim.parts[0].model_copy(update={"estimate": None, "interval": (600.0, None)})
    assert evidence.forest(claim.model_copy(update={"parts": [never]})) is not None
    assert formats.estimate(never.estimate, never.interval, formats.unit_of(never)) == "never [600, ∞]"


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
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("pair", "text"),
    [([None, 2], "≤ 2"), ([-0.5, None], "≥ −0.5"), ([-0.5, 0.5], "−0.5 to 0.5"), ([None, None], "–"), (None, "–")],
)
def test_regions(pair: Any, text: str) -> None:
    assert formats.region(pair) == text


def test_a_count_has_no_interval_and_its_region_tells_its_ends_apart() -> None:
    assert formats.region([10.736422, 10.738415]) == "10.73642 to 10.73841"
    assert formats.estimate(10.7374, [10.7374, 10.7374], "%") == "10.7% counted"
    assert formats.estimate(0.0, [0.0, 0.0], "points", 0.95) == "0 points [0, 0]"


def test_terminal_table() -> None:
    claims = synthetic.claims(synthetic.make()[0])
    claims[0] = synthetic.changed(claims[0], title="[red]not markup[/red]")
    console = Console(width=160)
    with console.capture() as capture:
        console.print(verdict_table(claims))
    text = capture.get()
    assert "[red]not markup[/red]" in text
    assert "✗ contradicted" in text
    assert one_line(claims) == "5 supported, 1 contradicted, 3 inconclusive, 24 not tested"
    assert one_line([claims[-1]]) == "0 supported, 0 contradicted, 0 inconclusive, 1 not tested"
    assert one_line([]) == "0 supported, 0 contradicted, 0 inconclusive, 0 not tested"
