"""Every region follows from a published number by the rule in docs/explanation/verdicts.md.

The numbers come from published/*.csv.

Signs, and midpoints, whose regions need no number, are the loader's to check.
"""

import csv
import math
from collections.abc import Iterator

import pytest

from harness.base.paths import checkout
from harness.data import source_of
from harness.networks import build, prunable_names
from harness.paper import Spec, load_spec
from harness.paper.claims import Part, expand_parts

PAPERS = ("stabilizing-lth", "linear-mode-connectivity")
RUNS = [(paper, scale) for paper in PAPERS for scale in ("mini", "paper")]
#: numbers are printed to a tenth, so the difference of two is known to 0.1
ROUNDING = 0.1


def rows(paper: str, *figures: str, **cells: str) -> list[dict[str, str]]:
    """The rows of figures' published numbers that have these cells."""
    folder = checkout() / "papers" / paper / "published"
    every = [row for figure in figures for row in csv.DictReader((folder / f"{figure}.csv").open(encoding="utf-8"))]
    return [row for row in every if all(row[name] == value for name, value in cells.items())]


def parts(spec: Spec, *statistics: str) -> Iterator[tuple[str, Part]]:
    for claim in spec.claims:
        for part in expand_parts(claim.scales[spec.scale_name]) if spec.scale_name in claim.scales else ():
            if part.region is not None and (not statistics or part.statistic in statistics):
                yield claim.id, part


def margins(paper: str, scale: str) -> list[tuple[str, Part]]:
    """The parts that say equal, or no more than: no effect lies inside their region, and not on its edge."""
    found = parts(load_spec(checkout(), paper, scale))
    return [(name, p) for name, p in found if p.no_effect is not None and p.bounds[0] < p.no_effect < p.bounds[1]]


@pytest.mark.parametrize(
    ("paper", "scale", "claims"),
    [
        ("stabilizing-lth", "mini", {"C7"}),
        ("stabilizing-lth", "paper", {"C7", "C10", "C16"}),
        ("linear-mode-connectivity", "mini", {"C36"}),
        ("linear-mode-connectivity", "paper", {"C36"}),
    ],
)
def test_an_equalitys_margin_is_at_most_half_of_the_smallest_contrast_of_its_kind(paper, scale, claims):
    found = margins(paper, scale)
    assert {name for name, _ in found} == claims
    for name, part in found:
        edges = [abs(math.log(edge) if part.logarithmic else edge) for edge in part.region if edge is not None]
        assert edges
        assert max(edges) <= smallest_contrast(paper, part) / 2 + 1e-9, name


def smallest_contrast(paper: str, part: Part) -> float:
    """Of a ratio the logarithm of the smallest printed above 1 for its network; of accuracies IMP's smallest lead."""
    experiment = part.cells[0].experiment
    if part.statistic == "ratio":
        network = experiment.partition("-")[0]
        printed = rows(paper, "fig3", measure=f"{part.measure}_ratio", obtained="printed")
        return math.log(min(v for row in printed if row["experiment"].startswith(network) and (v := value(row)) > 1))
    printed = {row["branch"]: value(row) for row in rows(paper, "table2", experiment=experiment, measure=part.measure)}
    return printed["imp"] - max(printed["random_prune"], printed["random_reinit"]) + ROUNDING


def value(row: dict[str, str]) -> float:
    return float(row["value"])


@pytest.mark.parametrize(("paper", "scale"), RUNS)
def test_stable_is_the_papers_own_bound(paper, scale):
    spec = load_spec(checkout(), paper, scale)
    bound = spec.paper.stable_below.value
    [text] = rows("linear-mode-connectivity", "text", experiment="lenet", measure="stable_k")
    assert "below 1 point" in text["note"]
    for name, part in parts(spec, "median"):
        allowed = [(None, bound), (bound, None), (50.0, None)]
        if (part.a.experiment, part.a.branch, scale) == ("lenet", "dense", "paper"):
            allowed.append((None, 1.0))
        assert part.region in allowed, name
        if part.region[0] == 50.0:
            assert part.a.k == 0, name  # where the paper's barrier reaches chance


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_an_onsets_region_is_one_step_of_the_grid_around_the_papers(scale):
    spec = load_spec(checkout(), "linear-mode-connectivity", scale)
    found = dict(parts(spec, "onset"))
    assert set(found) == {"C38", "C45"}
    for part in found.values():
        places = {"experiment": part.a.experiment, "branch": part.a.branch, "measure": "stable_k"}
        [published] = map(value, rows("linear-mode-connectivity", "text", **places))
        own = spec.paper.networks[spec.experiments[part.a.experiment].network].recipe.steps
        k = published * spec.recipe(part.a.experiment).steps / own
        nearest = sorted({max(g for g in part.over if g <= 1.1 * k), min(g for g in part.over if g >= 0.9 * k)})
        first, last = part.over.index(nearest[0]), part.over.index(nearest[-1])
        low, high = part.over[max(first - 1, 0)], part.over[last + 1]
        assert low <= part.region[0] <= nearest[0]
        assert nearest[-1] <= part.region[1] <= high
        if scale == "paper":
            assert part.region == (low, high)


@pytest.mark.parametrize(("paper", "scale"), RUNS)
def test_onset_differences_are_an_order_or_one_step_and_an_auc_is_half_way(paper, scale):
    spec = load_spec(checkout(), paper, scale)
    orders = [(-1.0, 1.0), (None, 0.0), (0.0, None), (None, -1.0), (1.0, None)]
    assert all(part.region in orders for _, part in parts(spec, "onset_difference"))
    assert all(part.region in [(None, 0.75), (0.75, None)] for _, part in parts(spec, "auc"))


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_a_count_is_known_to_half_a_weight(scale):
    """The power of 0.8 nearest to the printed share, of the network's own prunable weights."""
    spec = load_spec(checkout(), "stabilizing-lth", scale)
    found = [part for name, part in parts(spec, "exact") if name == "S1"]
    assert len(found) >= 4
    printed = {"lenet": 0.107, "resnet20": 0.167, "vgg19": 0.022}
    for part in found:
        setting = spec.scale.experiments[part.a.experiment]
        network = build(setting.network, 1, source_of(setting.data).shape, source_of(setting.data).classes)
        weights = dict(network.named_parameters())
        total = sum(weights[name].numel() for name in prunable_names(network))
        share = min((0.8**n for n in range(20)), key=lambda s: abs(s - printed[part.a.experiment.partition("-")[0]]))
        kept = round(total * share)
        counts = range(kept - 3, kept + 4)
        assert [n for n in counts if part.region[0] <= 100 * n / total <= part.region[1]] == [kept]
        assert part.region[1] - part.region[0] <= 100 / total + 3e-6  # no wider than one weight, but for rounding
