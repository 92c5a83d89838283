"""What a claim needs and what a selection runs: against hand counts and the judge itself."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.claims.judge import judge
from harness.estimate.budget import together
from harness.paper import Spec, load_spec
from harness.paper.claims import Claim, expand_parts
from harness.paper.columns import TABLE_COLUMNS
from harness.plan.needs import LEFT_OUT, judged, needs, parse_budget, parse_claims, selected
from harness.plan.runs import Run, all_runs, pairs, stacks, stages
from harness.report.summary import verdict_table
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from tests.tiny import tiny_spec

PAPERS = ("stabilizing-lth", "linear-mode-connectivity")
SCALES = ("mini", "paper")
EVERY = [(paper, scale) for paper in PAPERS for scale in SCALES]

# two rewind iterations, three levels; at level 3 every branch, at level 2 more data orders of IMP
SWEEPS = [{"k": [0, 5], "levels": 3, "at": {2: {"imp": 3}, 3: {"imp": 2, "random_prune": 2, "random_reinit": 1}}}]
L1, L2, L3 = 0.64, 0.64**2, 0.64**3


def claim(name: str, *cells: dict, measure: str = "test_accuracy", replicates: int = 3, **part) -> Claim:
    given = {"a": cells[0], **({"b": cells[1]} if len(cells) > 1 else {})}
    statistic = {1: "mean", 2: "difference"}[len(cells)]
    one = {"name": "x", "statistic": statistic, "measure": measure, "region": None, **given, **part}
    return Claim.model_validate(
        {
            "id": name,
            "title": name,
            "statement": name,
            "source": {"where": "here", "obtained": "printed"},
            "scales": {"tiny": {"replicates": replicates, "prediction": "some", "parts": [one]}},
        }
    )


def cell(branch: str, **where) -> dict:
    return {"experiment": "lenet", "branch": branch, **where}


CLAIMS = [
    claim("Dense", cell("dense", data_order=0)),
    claim("Alldense", cell("dense")),
    claim("Level1", cell("imp", k=5, density=L1)),
    claim("Level2", cell("imp", k=5, density=L2)),
    claim("Random", cell("random_prune", k=0, density=L3), cell("dense", data_order=0)),
    claim("Fresh", cell("random_reinit", k=0, density=L3)),
    claim("Pair", cell("imp", k=0, density=L3, comparison="data_order"), measure="angle"),
    claim("Pruning", cell("imp", k=0, density=L3, comparison="pruning"), measure="distance"),
    claim("Copies", cell("dense", k=5, comparison="data_order"), measure="angle"),
    claim("Trend", cell("imp", density=L3), statistic="trend", over=[0, 5]),
]


@pytest.fixture
def spec() -> Spec:
    made = tiny_spec(replicates=3, replicates_per_job=2, sweeps=SWEEPS)
    return Spec(made.folder, made.paper, made.experiments, CLAIMS, "tiny", made.scale)


def runs(*wanted: tuple) -> set[Run]:
    """(k, level, branch, data order) in each of three replicates, with the dense run."""
    return {Run("lenet", r, *one) for r in range(3) for one in [(0, 0, "dense", 0), *wanted]}


def chain(k: int, last: int) -> list[tuple]:
    return [(k, level, "imp", 0) for level in range(1, last + 1)]


BY_HAND = {
    "Dense": runs(),
    "Alldense": runs((0, 0, "dense", 1), (5, 0, "dense", 1)),
    "Level1": runs(*chain(5, 1)),
    "Level2": runs(*chain(5, 2), (5, 2, "imp", 1), (5, 2, "imp", 2)),
    "Random": runs(*chain(0, 3), (0, 3, "random_prune", 0), (0, 3, "random_prune", 1)),
    "Fresh": runs(*chain(0, 3), (0, 3, "random_reinit", 0)),
    "Pair": runs(*chain(0, 3), (0, 3, "imp", 1)),
    "Pruning": runs(*chain(0, 3)),
    "Copies": runs((5, 0, "dense", 1)),
    "Trend": runs(*chain(0, 3), (0, 3, "imp", 1), *chain(5, 3), (5, 3, "imp", 1)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_claim_needs_what_its_cells_read_and_where_that_starts(spec, name):
    assert needs(spec, name) == BY_HAND[name]


def test_a_claim_needs_the_networks_whose_masks_its_own_have_and_those_that_they_go_on_from():
    at = {2: {"snip": 2, "snip_reinit": 1, "fine_tune": 1, "lr_rewind": 1}}
    made = tiny_spec(replicates=3, sweeps=[{"k": [5], "levels": 3, "at": at}])
    claims = [
        claim("Redrawn", cell("snip_reinit", k=5, density=L2)),
        claim("Tuned", cell("fine_tune", k=5, density=L2)),
    ]
    spec = Spec(made.folder, made.paper, made.experiments, claims, "tiny", made.scale)
    assert needs(spec, "Redrawn") == runs(*chain(5, 2), (5, 2, "snip", 0), (5, 2, "snip_reinit", 0))
    assert needs(spec, "Tuned") == runs(*chain(5, 2), (5, 1, "fine_tune", 0), (5, 2, "fine_tune", 0))


def test_a_selection_is_what_its_claims_need_together(spec):
    for size in (1, 2, 3):
        for names in itertools.combinations(BY_HAND, size):
            assert set(all_runs(selected(spec, names))) == set().union(*(BY_HAND[name] for name in names))


def test_an_experiment_has_the_replicates_that_its_most_demanding_claim_asks_for():
    """Of seven: three for a claim that asks for three, five with one that asks for five, in the whole's chunks."""
    made = tiny_spec(replicates=7, replicates_per_job=4, sweeps=SWEEPS)
    more = claim("More", cell("imp", k=5, density=L1), replicates=5)
    spec = Spec(made.folder, made.paper, made.experiments, [*CLAIMS, more], "tiny", made.scale)
    for names, count in ((["Dense"], 3), (["More"], 5), (["Dense", "More"], 5)):
        small = selected(spec, names)
        assert small.scale.experiments["lenet"].replicates == count
        assert {run.replicate for run in all_runs(small)} == set(range(count))
        assert set(all_runs(small)) == together({name: needs(spec, name) for name in names}, names)
        # a stage of a selection is a stage of the whole, with the first of its replicates
        chunks = {stage.chunk: stage.replicates for stage in stages(spec)}
        for stage in stages(small):
            assert stage.replicates == chunks[stage.chunk][: len(stage.replicates)]
    assert needs(selected(spec, ["Dense", "More"]), "Dense") == needs(spec, "Dense")  # a part's plan says the same


def test_other_claims_are_not_tested_and_say_why(spec):
    small = selected(spec, ["Dense", "Fresh"])
    assert judged(small) == ["Dense", "Fresh"]
    assert [one.id for one in small.claims] == [one.id for one in spec.claims]
    assert {one.not_tested for one in small.claims if one.id not in judged(small)} == {LEFT_OUT}
    elsewhere = CLAIMS[0].model_copy(update={"id": "Elsewhere", "scales": {}, "not_tested": "needs a telescope"})
    wider = Spec(spec.folder, spec.paper, spec.experiments, [*CLAIMS, elsewhere], "tiny", spec.scale)
    assert selected(wider, ["Dense"]).claims[-1].not_tested == "needs a telescope"


def test_the_dense_run_keeps_the_snapshots_of_the_whole(spec):
    small = selected(spec, ["Dense"])
    assert small.scale.experiments["lenet"].rewind_grid() == []
    assert small.scale.experiments["lenet"].snapshot_steps() == [0, 5]


@pytest.mark.parametrize("every", [False, True])
def test_a_verdict_from_fewer_replicates_than_the_scale_has_says_so(every):
    whole = load_spec(checkout(), "stabilizing-lth", "mini")
    small = selected(whole, ["C1"], every_replicate=every)
    claim = next(claim for claim in whole.claims if claim.id == "C1")
    fewest = claim.scales["mini"].replicates
    experiment = expand_parts(claim.scales["mini"])[0].cells[0].experiment
    total = whole.scale.experiments[experiment].replicates
    assert fewest < total
    verdicts = judge(small.claims, "mini", fake_table(small), {}, small.whole_replicates)
    sentence = f"; at {fewest} of {total} replicates; --every-replicate runs all"
    assert [verdict.id for verdict in verdicts if sentence in verdict.reason] == ([] if every else ["C1"])
    said = "With fewer replicates than the scale has; --every-replicate runs all."
    assert (said in str(verdict_table(verdicts).caption)) != every
    keys = {
        stage_digest(spec, Folders(Path("no-run")), "claims") for spec in (small, replace(small, whole_replicates={}))
    }
    assert len(keys) == (1 if every else 2)


def fake_table(spec: Spec) -> pd.DataFrame:
    """A row for everything the scale makes, with numbers that depend on the row's name alone."""

    def row(kind: str, run: Run, other: Run | None = None, comparison: str = "") -> dict:
        name = f"{run.id} {other.id if other else ''} {comparison}"
        last, draw = other or run, random.Random(name)
        levels = spec.scale.experiments[run.experiment].pruning
        found = {
            **{"row": kind, "experiment": run.experiment, "branch": last.branch, "comparison": comparison},
            **{"run": run.id, "run_b": other.id if other else "", "status": "ok", "replicate": run.replicate},
            **{"k": last.k, "level": last.level, "data_order": run.data_order, "density": levels.density(last.level)},
        }
        measured = {one: draw.uniform(1, 99) for one in TABLE_COLUMNS if one not in found}
        pair_only = ("distance", "angle", "instability")
        return found | {one: v for one, v in measured.items() if one.startswith(pair_only) == (kind == "pair")}

    rows = [row("network", run) for run in all_runs(spec)]
    for stage in stages(spec):
        if stage.kind == "stability":
            rows += [row("pair", p.run, p.run_b, p.comparison) for group in pairs(spec, stage) for p in group]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("paper", "scale"), [(paper, "mini") for paper in PAPERS])
def test_a_selected_claim_gets_the_verdict_that_it_gets_from_the_whole_table(paper, scale):
    """From as many replicates, the fewest with which it is tested."""
    whole = load_spec(checkout(), paper, scale)
    table = fake_table(whole)
    wanted = {
        fewest: {one.id: one for one in judge(whole.claims, scale, table[table["replicate"] < fewest], {})}
        for fewest in {claim.scales[scale].replicates for claim in whole.claims if scale in claim.scales}
    }
    for name in judged(whole):
        small = selected(whole, [name])
        fewest = next(claim.scales[scale].replicates for claim in whole.claims if claim.id == name)
        found = {one.id: one for one in judge(small.claims, scale, fake_table(small), {})}
        assert found[name] == wanted[fewest][name]
        assert not any("replicates, has" in part.reason for part in found[name].parts)
        assert {one.verdict for one in found.values() if one.id != name} == {"not tested"}


@pytest.mark.parametrize(("paper", "scale"), EVERY)
def test_selections_of_what_ships_lie_within_the_whole_and_add_up(paper, scale):
    spec = load_spec(checkout(), paper, scale)
    everything = set(all_runs(spec))
    names = judged(spec)
    needed = {name: needs(spec, name) for name in names}
    assert set().union(*needed.values()) <= everything
    assert set(all_runs(selected(spec, names))) == together(needed, names)
    for name, own in needed.items():  # each from a dense run
        assert {run.id.partition("/")[0] for run in own} <= set(spec.scale.experiments)
        for run in own:
            assert Run(run.experiment, run.replicate, 0, 0, "dense", 0) in own, name


def test_a_selections_stages_are_the_wholes_or_shorter_ones(spec):
    """What has been trained for a selection is found again: the same runs, in stages of the same chunks."""
    for name in BY_HAND:
        for stage in stages(selected(spec, [name])):
            assert {run for stack in stacks(selected(spec, [name]), stage) for run in stack} <= set(all_runs(spec))
            assert stage.replicates in ((0, 1), (2,))


@pytest.mark.parametrize(
    ("text", "seconds"), [("20h", 72000), ("90min", 5400), ("1.5d", 129600), ("300s", 300), (" 2 h ", 7200)]
)
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "h", "-3h", "0h", "20 hours", "1e3h", "nan h", "1.h", "9" * 400 + "h"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(HarnessError, match=r"^--budget .*: give a time above 0 with its unit, such as 20h"):
        parse_budget(text)


def test_claims_are_those_named_in_the_papers_order(spec):
    assert parse_claims("Fresh, Dense,,Dense", spec) == ["Dense", "Fresh"]


def test_claims_that_are_not_there_or_not_judged_here_are_refused(spec):
    with pytest.raises(
        HarnessError, match=r"^--claims 'Dense,nope': nope: not in .*claims\.yaml; there are Dense, All"
    ):
        parse_claims("Dense,nope", spec)
    with pytest.raises(HarnessError, match=r"^--claims ' ,': names no claim; there are Dense"):
        parse_claims(" ,", spec)
    smoke = load_spec(checkout(), "stabilizing-lth", "smoke")
    with pytest.raises(HarnessError, match=r"C6: scale smoke does not judge it; it judges no claim$"):
        parse_claims("C6", smoke)
