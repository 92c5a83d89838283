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
    shown = league.content(study(rows))
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


def test_a_paper_that_makes_claims_has_none() -> None:
    assert league.cells(study(table(), claims=3)).empty
    assert league.content(study(table(), claims=3))["rows"] == []
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
