"""The second paper is data: valid at every scale, its recipes its own, every claim's rows asked for, no code for it."""

import csv
import re
from pathlib import Path

import pytest

import harness
from harness.base.paths import checkout
from harness.networks import NETWORKS
from harness.paper import Spec, load_spec
from harness.paper.claims import expand_parts
from harness.paper.columns import DENSITY_TOLERANCE
from harness.paper.load import dump
from harness.plan.runs import all_runs, pairs, stacks, stages
from harness.plan.settings import check_settings
from harness.plan.twins import snapshots
from harness.results.context import Context
from harness.results.folders import Folders
from tests.paper.test_load import recipe_rows

PAPER = "linear-mode-connectivity"
FIRST = "stabilizing-lth"
SCALES = ("smoke", "mini", "wide", "paper")


def load(scale: str, paper: str = PAPER) -> Spec:
    return load_spec(checkout(), paper, scale)


@pytest.mark.parametrize("scale", SCALES)
def test_what_ships_is_valid(scale):
    spec = load(scale)
    check_settings(spec)
    assert [claim.id for claim in spec.claims] == [f"C{number}" for number in range(34, 56)]
    for name, setting in spec.scale.experiments.items():
        assert setting.network in NETWORKS
        assert spec.recipe(name).steps > max(setting.snapshot_steps())


def test_ids_of_claims_are_unique_over_papers():
    ids = [claim.id for paper in (FIRST, PAPER) for claim in load("mini", paper).claims]
    assert len(set(ids)) == len(ids)


def test_recipes_are_table_1():
    spec = load("paper")
    cifar, epoch = (32000, 48000), 1251
    assert recipe_rows(spec) == {
        "lenet": ("adam", 0.0012, 60, 24000, 0, ()),
        "resnet20-standard": ("momentum", 0.1, 128, 63000, 0, cifar),
        "resnet20-restarted": ("momentum", 0.1, 128, 63000, 0, cifar),
        "resnet20-low": ("momentum", 0.01, 128, 63000, 0, cifar),
        "resnet20-warmup": ("momentum", 0.03, 128, 63000, 30000, cifar),
        "vgg16-standard": ("momentum", 0.1, 128, 63000, 0, cifar),
        "vgg16-low": ("momentum", 0.01, 128, 63000, 0, cifar),
        "vgg16-warmup": ("momentum", 0.1, 128, 63000, 30000, cifar),
        "vgg16-restarted": ("momentum", 0.1, 128, 63000, 0, cifar),
        "resnet50": ("momentum", 0.4, 1024, 90 * epoch, 5 * epoch, (30 * epoch, 60 * epoch, 80 * epoch)),
        "inception-v3": ("momentum", 0.03, 1024, 171 * epoch, 0, ()),
    }
    inception = spec.recipe("inception-v3")
    assert (inception.decay, inception.final_learning_rate) == ("linear", 0.005)
    assert set(spec.scale.experiments) == set(spec.experiments)


def test_densities_and_samples_are_the_papers():
    """Three data orders of each network make three pairs; the densities are the labels of Table 1."""
    spec = load("paper")
    labels = {"lenet": 0.035, "resnet20-standard": 0.168, "resnet20-low": 0.086, "resnet20-warmup": 0.086}
    labels |= {"vgg16-standard": 0.015, "vgg16-low": 0.055, "vgg16-warmup": 0.015}
    labels |= {"resnet50": 0.3, "inception-v3": 0.3}
    for name, label in labels.items():
        setting = spec.scale.experiments[name]
        level = next(level for level, orders in setting.sweeps[0].at.items() if orders.of("random_reinit"))
        assert setting.pruning.density(level) == pytest.approx(label, rel=0.05)
        orders = setting.sweeps[0].at[level]
        assert [orders.of(branch) for branch in ("imp", "random_prune", "random_reinit")] == [3, 3, 3]
        assert setting.replicates >= 3
    for name in ("lenet", "resnet20-standard", "vgg16-standard", "resnet50", "inception-v3"):
        assert spec.scale.experiments[name].dense_copies == 2


def test_rewind_iterations_on_imagenet_are_those_of_the_published_curves():
    spec = load("paper")
    for figure, branch in (("fig3", "dense"), ("fig6", "imp"), ("fig7", "imp")):
        rows = list(csv.DictReader((spec.folder / "published" / f"{figure}.csv").open(encoding="utf-8")))
        for name in ("resnet50", "inception-v3"):
            found = {1251 * int(r["k"]) for r in rows if (r["experiment"], r["branch"]) == (name, branch) and r["k"]}
            setting = spec.scale.experiments[name]
            trained = set(setting.dense_orders if branch == "dense" else setting.rewind_grid())
            # Fig. 7's curve of ResNet-50 is flat from epoch 5 on, and its table ends there; Fig. 3 ends where
            # Inception-v3 has just become stable, so that a later epoch is trained too
            later = {42534} if (figure, name) == ("fig3", "inception-v3") else set()
            assert found
            assert found <= trained if figure == "fig7" else found | later == trained, (figure, name)


def test_imagenets_trainings_are_the_first_papers_where_both_ask_for_them(tmp_path):
    """Equal keys: IMP's and random subnetworks at 30% density, from every k that both papers rewind to."""
    names, keys = ("resnet50", "inception-v3"), []
    for paper in (PAPER, FIRST):
        spec = load("paper", paper)
        found = {name: Context(spec, Folders(tmp_path), name) for name in names}
        keys.append({found[run.experiment].key(run): run.id for run in all_runs(spec) if run.experiment in names})
        if paper == PAPER:
            grids = {name: set(spec.scale.experiments[name].rewind_grid()) for name in names}
            replicates = {name: spec.scale.experiments[name].replicates for name in names}
        assert all(dump(spec.recipe(name)) == dump(load("paper").recipe(name)) for name in names)
    ours, theirs = keys
    both = set(ours) & set(theirs)
    assert {ours[key] for key in both} == {theirs[key] for key in both}
    first = load("paper", FIRST)
    for name in names:
        setting = first.scale.experiments[name]
        level = next(level for level in range(1, 9) if setting.pruning.density(level) == 0.3)
        shared = {ours[key] for key in both if ours[key].startswith(f"{name}/")}
        common = grids[name] & set(setting.rewind_grid())
        for replicate in range(min(replicates[name], setting.replicates)):
            # two data orders of IMP and of random pruning from each k, and the dense run
            start = f"{name}/r{replicate}/"
            here = {run for run in shared if run.startswith(start)}
            assert {f"{start}k{k}/L{level}-imp-o0" for k in common} <= here
            assert len(here) >= 1 + 4 * len(common)


@pytest.mark.parametrize("scale", ["mini", "wide", "paper"])
def test_every_cell_of_a_claim_has_rows_at_its_scale(scale):
    spec = load(scale)
    networks = {
        (run.experiment, run.branch, run.level, run.k) for stage in stages(spec) for (run, *_) in stacks(spec, stage)
    }
    compared = {
        (pair.run_b.experiment, pair.run_b.branch, pair.run_b.level, pair.run_b.k, pair.comparison)
        for stage in stages(spec)
        if stage.kind == "stability"
        for (pair, *_) in pairs(spec, stage)
    }
    for claim in spec.claims:
        for part in expand_parts(claim.scales[scale]) if scale in claim.scales else []:
            for cell, k_values, densities in part.cells_and_grids():
                pruning = spec.scale.experiments[cell.experiment].pruning
                for k in k_values:
                    for density in densities or [1.0]:
                        levels = [
                            n for n in range(25) if abs(pruning.density(n) - density) <= DENSITY_TOLERANCE * density
                        ]
                        key = (cell.experiment, cell.branch, levels[0], k)
                        found = (*key, cell.comparison) in compared if cell.comparison else key in networks
                        assert found, (claim.id, part.name, key)


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_claims_have_the_replicates_that_they_ask_for(scale):
    spec = load(scale)
    for claim in spec.claims:
        entry = claim.scales.get(scale)
        for part in entry.parts if entry else []:
            for cell in part.cells:
                assert spec.scale.experiments[cell.experiment].replicates >= entry.replicates, (claim.id, part.name)
    entries = [(claim.id, claim.scales[scale]) for claim in spec.claims if scale in claim.scales]
    onsets = [name for name, entry in entries if entry.parts[0].statistic == "onset"]
    assert onsets == ["C38", "C45"]


@pytest.mark.parametrize(
    ("scale", "paper", "others", "fewest"),
    [
        ("mini", PAPER, "mini", 200),
        ("wide", PAPER, "mini", 100),
        ("wide", PAPER, "wide", 60),
        ("wide", FIRST, "mini", 50),
    ],
)
def test_small_scales_ask_for_the_same_trainings_where_they_overlap(scale, paper, others, fewest):
    """Same name, data, network, recipe and pruning: a run of either is a run of both."""
    ours, theirs = load(scale, paper), load(others, FIRST)
    names = set(ours.scale.experiments) & set(theirs.scale.experiments)
    for name in names:
        setting, other = ours.scale.experiments[name], theirs.scale.experiments[name]
        assert (setting.network, setting.data, setting.pruning) == (other.network, other.data, other.pruning)
        assert ours.recipe(name) == theirs.recipe(name)
        if scale == others:  # so that the second paper's run has the snapshots that it starts from
            assert set(snapshots(ours, name)) <= set(snapshots(theirs, name))
    shared = {run.id for run in all_runs(ours)} & {run.id for run in all_runs(theirs)}
    assert len(shared) > fewest


def test_a_claim_that_no_scale_judges_says_why():
    for claim in load("mini").claims:
        assert claim.source.where
        assert "mini" in claim.scales or claim.not_tested, claim.id
        assert "smoke" not in claim.scales


def test_published_curves_agree_with_the_claims():
    """A number that stands in claims.yaml and in a table is the same in both."""
    folder = checkout() / "papers" / PAPER / "published"
    rows = [row for path in sorted(folder.glob("*.csv")) for row in csv.DictReader(path.open(encoding="utf-8"))]

    def value(figure: str, experiment: str, branch: str, k: str, measure: str) -> float:
        key = (figure, experiment, branch, k, measure)
        (found,) = [r for r in rows if (r["figure"], r["experiment"], r["branch"], r["k"], r["measure"]) == key]
        return float(found["value"])

    claims = {claim.id: [v.value for v in claim.published] for claim in load("mini").claims}
    assert value("fig3", "resnet20-standard", "dense", "2000", "instability_test") in claims["C38"]
    assert value("fig6", "resnet20-standard", "imp", "500", "instability_test") in claims["C45"]
    assert value("fig6", "vgg16-standard", "imp", "1000", "instability_test") in claims["C47"]
    assert value("table2", "resnet20-low", "imp", "0", "test_accuracy") in claims["C43"]
    assert round(100 - value("fig7", "resnet20-standard", "imp", "500", "test_accuracy"), 1) in claims["C46"]
    assert round(100 - value("fig8", "resnet20-standard", "imp", "0", "train_accuracy"), 1) in claims["C53"]
    assert {r["experiment"] for r in rows} == set(load("mini").experiments)


def test_no_line_of_code_knows_a_paper():
    """Neither ids nor titles nor arXiv numbers, of no paper that ships."""
    folder = Path(harness.__file__).parent
    shipped = sorted(path.parent.name for path in (checkout() / "papers").glob("*/paper.yaml"))
    known = [load("smoke", name).paper for name in shipped]
    assert len(known) >= 5
    known = [re.escape(text) for paper in known for text in (paper.id, paper.title, paper.arxiv) if text]
    # titles are also cited by their first words
    known += ["linear mode connectivity", "stabilizing the lottery"]
    for path in [*folder.rglob("*.py"), *folder.rglob("*.smk"), *folder.rglob("*.j2")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search("|".join(known), text, re.IGNORECASE), path
