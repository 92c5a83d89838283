"""A study's methods side by side: the table's means and intervals by SciPy, their order, and what is left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.report import build_report, league, style
from harness.report.figures import Data
from tests.report import synthetic

EXPERIMENTS = {"one": {"title": "By <size>"}, "two": {"title": "By chance"}}
MEANS = {("one", "imp"): 95.0, ("one", "fine_tune"): 96.0, ("one", "snip"): 93.0, ("two", "imp"): 90.0}
DENSITIES = (1.0, 0.107, 0.035)


def table(ks: tuple[int, ...] = (0,), replicates: int = 4) -> pd.DataFrame:
    draw, rows = np.random.default_rng(0), []
    for experiment in EXPERIMENTS:
        for replicate in range(replicates):
            cells = [("dense", 0, 0)]
            cells += [(b, k, n) for e, b in MEANS for n in (1, 2) for k in ks if e == experiment]
            for branch, k, level in cells:
                mean = 98 if branch == "dense" else MEANS[experiment, branch] - 3 * level - k / 100
                rows.append(
                    {
                        **{"row": "network", "experiment": experiment, "branch": branch, "k": k, "level": level},
                        **{"replicate": replicate, "density": DENSITIES[level], "status": "ok", "data_order": 0},
                        "test_accuracy": mean + 0.1 * draw.standard_normal(),
                        **{"steps": 1000 - k, "operations": 5000.0 if branch == "dense" else 1000.0 / level},
                    }
                )
    return pd.DataFrame(rows)


def study(rows: pd.DataFrame, claims: int = 0) -> Data:
    return Data.of(rows, experiments=EXPERIMENTS, paper={"claims": claims})


def test_means_and_intervals_are_those_of_scipy_and_the_best_at_the_lowest_density_comes_first() -> None:
    rows = table()
    shown = league.cells(study(rows))
    assert list(dict.fromkeys(shown["method"])) == [
        "By <size>, fine-tuning",
        "By <size>, IMP",
        "SNIP",
        "By chance, IMP",
    ]
    assert len(shown) == 8
    for cell in shown.to_dict("records"):
        names = ["experiment", "branch", "level"]
        values = rows.loc[(rows[names] == [cell[name] for name in names]).all(axis=1), "test_accuracy"]
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        assert [cell["mean"], cell["low"], cell["high"]] == pytest.approx([values.mean(), low, high])
        assert (cell["n"], cell["density"]) == (4, DENSITIES[cell["level"]])


def test_the_table_has_a_column_for_each_density_and_nothing_where_a_network_is_missing_or_lost() -> None:
    rows = table()
    rows.loc[(rows["branch"] == "snip") & (rows["level"] == 2), "status"] = "diverged"
    shown, costs = league.content(study(rows))
    assert [table["title"] for table in (shown, costs)] == [
        league.MEASURES[name][0] for name in ("test_accuracy", "cost")
    ]
    assert costs["rows"][0] == {"method": "By <size>, fine-tuning", "cells": ["1.20", "1.10"]}
    assert shown["densities"] == ["10.7%", "3.5%"]
    assert shown["replicates"] == "4"
    by_method = {row["method"]: row["cells"] for row in shown["rows"]}
    assert by_method["By <size>, IMP"][0].startswith(("92.", "91.9"))
    assert by_method["SNIP"][1] == "–"
    assert shown["rows"][-1]["method"] == "SNIP"


def test_several_ks_are_methods_of_their_own() -> None:
    methods = set(league.cells(study(table(ks=(0, 100))))["method"])
    assert {"SNIP, k = 0", "SNIP, k = 100"} < methods
    assert len(methods) == 8


def test_a_network_costs_what_it_and_those_before_it_were_trained_for() -> None:
    """By hand: dense 5,000 in 1,000 steps, level 1 1,000, level 2 500; k = 100 reads a tenth of the dense training."""

    def costs(iterative: bool) -> dict[tuple[str, int, int], float]:
        rows = table(ks=(0, 100))
        more = rows[rows["branch"] == "imp"]
        rows = pd.concat([rows, more.assign(branch="distilled"), more.assign(branch="random_prune")])
        pruning = {"fraction": 0.2} if iterative else {"fraction": None}
        data = Data.of(rows, experiments={"one": {"pruning": pruning}, "two": {}}, paper={"claims": 0})
        own = league.cells(data, "cost").query("experiment == 'one'")
        assert (own["low"].isna() | (own["low"] == own["high"])).all()
        return {(row["branch"], row["k"], row["level"]): row["mean"] for row in own.to_dict("records")}

    once, stepwise = costs(False), costs(True)
    assert (once["imp", 0, 1], once["imp", 0, 2]) == pytest.approx((6000 / 5000, 5500 / 5000))
    assert (stepwise["imp", 0, 1], stepwise["imp", 0, 2]) == pytest.approx((6000 / 5000, 6500 / 5000))
    assert (once["snip", 0, 2], once["snip", 100, 2]) == pytest.approx((500 / 5000, (500 + 500) / 5000))
    for costs_of in (once, stepwise):  # a mask of IMP costs what it took to find it
        for name in ("distilled", "random_prune"):
            assert costs_of[name, 0, 2] == pytest.approx(costs_of["imp", 0, 2] + 500 / 5000)


def test_two_data_orders_are_compared_where_there_are_two() -> None:
    rows = table()
    pairs = rows[(rows["branch"] == "snip") & (rows["level"] == 1)].assign(
        row="pair", comparison="data_order", distance=2.0, instability_test=[0.0, 0.5, 1.0, 0.5]
    )
    shown = league.content(study(pd.concat([rows, pairs])))
    assert [table["title"] for table in shown][2:] == [
        league.MEASURES[name][0] for name in ("distance", "instability_test")
    ]
    assert shown[2]["rows"] == [{"method": "SNIP", "cells": ["2.00"]}]
    assert shown[3]["rows"][0]["cells"][0].startswith("0.50 [")


def test_a_paper_that_makes_claims_has_none() -> None:
    assert league.cells(study(table(), claims=3)).empty
    assert league.content(study(table(), claims=3)) == []
    assert league.league(study(table(), claims=3)) is None


def test_the_figure_draws_each_mean_in_its_row() -> None:
    data = study(table())
    with style.look():
        figure = league.league(data)
        assert figure is not None
        assert figure.axes[0].get_yticklabels()[0].get_text() == "By <size>, fine-tuning"
        for ax, level in zip(figure.axes, (1, 2), strict=True):
            drawn = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines}
            for place, cell in enumerate(league.cells(data).query(f"level == {level}").to_dict("records")):
                assert drawn[cell["method"]] == (pytest.approx(cell["mean"]), place)


def test_the_page_and_its_twin_have_the_table_escaped(tmp_path: Path) -> None:
    scale = {**synthetic.scale(judges=False), "experiments": EXPERIMENTS}
    paper, empty = {**synthetic.paper(), "claims": 0}, synthetic.make()[1].iloc[:0]
    build_report(paper, scale, [], table(), empty, synthetic.published().iloc[:0], synthetic.provenance(), tmp_path)
    page, twin = ((tmp_path / name).read_text() for name in ("index.html", "report.md"))
    assert '<th scope="row">By &lt;size&gt;, IMP</th>' in page
    assert "10.7% of the weights" in twin.replace("\\", "")
    assert "| By &lt;size&gt;, IMP | 9" in twin.replace("\\", "")
