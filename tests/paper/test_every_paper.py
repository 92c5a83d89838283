"""Every paper that ships: valid at each of its scales, its claims' networks asked for, its regions as they were frozen.

And what those say that share the first paper's mini scale: that they ask for the same trainings.
"""

import pytest

from harness.base.paths import checkout
from harness.paper import Spec, load_spec
from harness.paper.claims import expand_parts
from harness.paper.columns import same_density
from harness.paper.frozen import excused, moved
from harness.plan.runs import all_runs
from harness.plan.settings import check_settings
from harness.plan.twins import snapshots
from harness.results.context import Context
from harness.results.folders import Folders

PAPERS = sorted(path.parent.name for path in (checkout() / "papers").glob("*/paper.yaml"))
SCALES = [(p, path.stem) for p in PAPERS for path in sorted((checkout() / "papers" / p / "scales").glob("*.yaml"))]
FIRST = "stabilizing-lth"
#: networks of a paper's mini scale, and how many of these the first paper's mini scale trains too
SHARED = {
    "missing-the-mark": (249, 165),
    "rethinking-pruning": (125, 70),
    "rewinding-and-fine-tuning": (110, 30),
    "single-shot-pruning": (81, 9),
    "sparse-evolutionary-training": (63, 9),
    "state-of-sparsity": (144, 9),
    "the-lottery-ticket-hypothesis": (108, 90),
}
#: papers of which numbers were read, or of their authors' repositories
WITH_NUMBERS = {"rethinking-pruning", "single-shot-pruning", "sparse-evolutionary-training", "state-of-sparsity"}


def load(paper: str, scale: str = "mini") -> Spec:
    return load_spec(checkout(), paper, scale)


@pytest.mark.parametrize(("paper", "scale"), SCALES)
def test_a_scale_is_valid_and_trains_what_its_claims_read(paper, scale):
    spec = load(paper, scale)
    check_settings(spec)
    networks = {(run.experiment, run.branch, run.level, run.k) for run in all_runs(spec)}
    assert not spec.scale.papers_own or spec.scale.judges_claims
    for claim in spec.claims:
        if scale not in claim.scales:
            continue
        for part in expand_parts(claim.scales[scale]):
            for cell, k_values, densities in part.cells_and_grids():
                pruning = spec.scale.experiments[cell.experiment].pruning
                for density in densities if cell.branch != "dense" else []:
                    level = next(n for n in range(1, 30) if same_density(pruning.density(n), density))
                    for k in k_values:
                        assert (cell.experiment, cell.branch, level, k) in networks, (claim.id, part.name)


def test_ids_of_claims_are_unique_over_papers():
    ids = [claim.id for paper in PAPERS for claim in load(paper, "smoke").claims]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("paper", "scale"), SCALES)
def test_every_region_is_frozen_and_none_has_moved_without_an_erratum(paper, scale):
    spec = load(paper, scale)
    excuses = {claim.id: excused(claim, scale) for claim in spec.claims}
    assert [name for name, *_ in moved(spec.claims, scale, spec.frozen) if not excuses.get(name)] == []
    judged = {claim.id for claim in spec.claims if scale in claim.scales}
    assert judged == {name for name, entries in spec.frozen.items() if scale in entries}


@pytest.mark.parametrize("paper", SHARED)
def test_a_mini_scale_shares_the_first_papers_networks(paper, tmp_path):
    ours, theirs = load(paper), load(FIRST)
    keys = []
    shared = [name for name in ours.scale.experiments if name in theirs.scale.experiments]
    for spec, names in ((ours, list(ours.scale.experiments)), (theirs, shared)):
        contexts = {name: Context(spec, Folders(tmp_path), name) for name in names}
        keys.append({contexts[run.experiment].key(run) for run in all_runs(spec) if run.experiment in contexts})
    assert (len(keys[0]), len(keys[0] & keys[1])) == SHARED[paper]
    for name in shared:  # either may run first
        setting = ours.scale.experiments[name]
        assert set(snapshots(ours, name)) == set(snapshots(theirs, name))
        bands = theirs.scale.experiments[name].calibration
        assert {gauge: bands[gauge] for gauge in setting.calibration} == setting.calibration


@pytest.mark.parametrize("paper", sorted(SHARED.keys() - WITH_NUMBERS))
def test_a_paper_of_which_the_abstract_alone_was_read_publishes_no_number(paper):
    spec = load(paper)
    assert not spec.published.rows
    for claim in spec.claims:
        assert claim.published == []
        assert claim.source.obtained == "text"
        assert claim.source.quotation or claim.note or claim.not_tested
