"""`--until-decided` takes planned looks while a claim can be decided, and stops by rule. Its runs are stood in for."""

import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from harness.base.errors import HarnessError
from harness.base.files import write_json
from harness.claims.document import write_claims
from harness.claims.judge import judge
from harness.cli.run import reproduce
from harness.estimate.budget import Prices
from harness.estimate.costs import Plan
from harness.paper import Spec
from harness.paper.claims import LOOKS
from harness.plan.needs import needs, selected
from harness.plan.runs import all_runs, pairs, stages
from harness.results.context import Context
from harness.results.folders import Folders
from harness.results.keys import stage_digest
from harness.results.selection import as_recorded, read_selection, write_selection
from harness.workflow import until_decided
from harness.workflow.reproduce import Request
from harness.workflow.until_decided import reproduce_until_decided
from tests.claims.tables import network, table
from tests.estimate.test_budget import claim
from tests.tiny import tiny_spec

IMP, RANDOM, DENSE = (
    {"experiment": "lenet", "branch": "imp", "k": 5, "density": 0.64},
    {"experiment": "lenet", "branch": "random_prune", "k": 5, "density": 0.64**2},
    {"experiment": "lenet", "branch": "dense"},
)
#: the effect over the dense network, in standard deviations
EFFECTS = {"Clear": 4.0, "Slow": 0.9, "Edge": 0.0}


def scale(**changes) -> Spec:
    made = tiny_spec(replicates=3, replicates_per_job=3, **changes)
    compared = {"statistic": "difference", "region": [0.0, None]}
    cells = {"Clear": {**IMP}, "Slow": {**RANDOM}, "Edge": {**IMP, "density": 0.64**2}}
    claims = [claim(name, cell, DENSE, **compared) for name, cell in cells.items()]
    return Spec(made.folder, made.paper, made.experiments, claims, "tiny", made.scale)


def numbers(spec: Spec):
    """What a run of this part of the scale would measure: the same values whichever replicates are there."""
    count = spec.scale.experiments["lenet"].replicates
    noise = np.random.default_rng(3).normal(size=(3, 100))
    noise = (noise - noise[:, :5].mean(1, keepdims=True)) / noise[:, :5].std(1, ddof=1, keepdims=True)
    rows = [network("dense", r, test_accuracy=90.0) for r in range(count)]
    for at, (name, place) in enumerate((("Clear", (1, "imp")), ("Slow", (2, "random_prune")), ("Edge", (2, "imp")))):
        level, branch = place
        rows += [
            network(branch, r, k=5, level=level, test_accuracy=90 + EFFECTS[name] + noise[at, r]) for r in range(count)
        ]
    return table(*rows)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls the command with a scale in `tmp_path`, whose runs are judged on `numbers`; keeps what was run."""
    spec, folders, looks = scale(), Folders(tmp_path / "run"), []
    monkeypatch.setattr(until_decided, "load_scale", lambda *_: spec)
    monkeypatch.setattr(until_decided, "folders_of", lambda *_: folders)

    def reproduce_selection(root, request, selection, console):
        write_selection(folders, selection.claims, request.budget, finished=True, design=selection.design)
        part = as_recorded(spec, folders)
        looks.append(dict(selection.design["looks"]))
        write_claims(folders.claims, judge(part.claims, "tiny", numbers(part), {}, looks=part.looks))

    monkeypatch.setattr(until_decided, "reproduce_selection", reproduce_selection)

    def call(**options) -> tuple[list[dict[str, int]], str]:
        stream = io.StringIO()
        request = Request("stabilizing-lth", "tiny", Path("results"), 1, **options)
        looks.clear()
        reproduce_until_decided(tmp_path, request, Console(file=stream, width=400))
        return list(looks), stream.getvalue()

    call.spec, call.folders = spec, folders
    return call


def test_replicates_are_added_where_a_claim_can_still_be_decided(run):
    looks, out = run()
    assert looks == [
        {"Clear": 5, "Slow": 5, "Edge": 5},
        {"Clear": 5, "Slow": 10, "Edge": 5},
        *([{"Clear": 5, "Slow": 20, "Edge": 5}] if len(looks) == 3 else []),
    ]
    assert "given up" in out
    assert "Edge (1." in out
    assert run()[0] == [looks[-1]]  # again: the last look is seen to, and nothing is added


def test_a_stopped_run_goes_on_with_its_look(run):
    write_selection(run.folders, ["Slow"], design={"looks": {"Slow": 10}, "spent": 5.0})
    looks, _ = run(claims="Slow")
    assert looks[0] == {"Slow": 10}
    assert all(look["Slow"] in (10, 20) for look in looks)


def test_a_budget_is_for_all_looks_together(run, monkeypatch):
    def plan(spec, folders, at_most):
        found = Plan(spec, folders)
        found.__dict__["left"] = Prices(dict.fromkeys(all_runs(spec), 1.0))
        return found

    monkeypatch.setattr(until_decided, "Plan", plan)
    five = len(needs(run.spec, "Clear", {"Clear": 5}))
    looks, out = run(budget=f"{five}s")
    assert looks == [{"Clear": 5}]
    assert "over the budget: Slow, Edge" in out
    run.folders.selection.unlink()
    with pytest.raises(HarnessError, match="no claim of scale tiny fits the budget"):
        run(budget="1s")


def test_options_that_it_decides_itself_are_refused(run):
    for options in ({"every_replicate": True}, {"until": "data"}):
        with pytest.raises(HarnessError, match="omit --every-replicate, --until"):
            run(**options)


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_trains_what_a_scale_of_so_many_replicates_would(look):
    """The same networks under the same keys and the same pairs, whatever the chunks."""
    part = selected(scale(), ["Slow"], looks={"Slow": look})
    whole = scale()
    setting = whole.scale.experiments["lenet"].model_copy(update={"replicates": look})
    larger = replace(whole, scale=whole.scale.model_copy(update={"experiments": {"lenet": setting}}))
    alone = selected(larger, ["Slow"], every_replicate=True)
    keys = [
        {run.id: Context(spec, Folders(Path("no-run")), "lenet").key(run) for run in all_runs(spec)}
        for spec in (part, alone)
    ]
    assert keys[0] == keys[1]
    compared = [
        {pair for stage in stages(spec) if stage.kind == "stability" for group in pairs(spec, stage) for pair in group}
        for spec in (part, alone)
    ]
    assert compared[0] == compared[1]


def test_the_next_look_leaves_the_stages_of_the_last_as_they_are():
    folders = Folders(Path("no-run"))
    digests = []
    for look in LOOKS:
        part = selected(tiny(), ["Slow"], looks={"Slow": look})
        digests.append({stage.name: stage_digest(part, folders, stage.name) for stage in stages(part)})
    for before, after in itertools.pairwise(digests):
        assert before.items() < after.items()
    claims = {stage_digest(spec, folders, "claims") for spec in (tiny(), selected(tiny(), ["Slow"], looks={"Slow": 5}))}
    assert len(claims) == 2


def tiny() -> Spec:
    spec = scale()
    setting = spec.scale.experiments["lenet"].model_copy(update={"replicates": 9, "replicates_per_job": 9})
    return replace(spec, scale=spec.scale.model_copy(update={"experiments": {"lenet": setting}}))


@pytest.mark.parametrize(
    "more", [{"looks": {"Slow": 7}}, {"looks": {}, "spent": "long"}, {"looks": [5]}, {"looks": {"Edge": 5}}]
)
def test_a_record_that_can_not_be_right_is_refused(tmp_path, more):
    folders = Folders(tmp_path)
    write_json(folders.selection, {"claims": ["Slow"], **more})
    with pytest.raises(HarnessError, match=r"selection\.json: looks or spent"):
        read_selection(folders)


@pytest.mark.parametrize(("options", "called"), [((), "whole"), (("--until-decided",), "design")])
def test_the_command_follows_a_plan_if_it_is_asked_to(monkeypatch, options, called):
    calls = []
    monkeypatch.setattr("harness.workflow.reproduce.reproduce", lambda *_: calls.append("whole"))
    monkeypatch.setattr(until_decided, "reproduce_until_decided", lambda _, request, __: calls.append("design"))
    app = typer.Typer()
    app.command()(reproduce)
    result = CliRunner().invoke(app, ["--scale", "smoke", *options])
    assert (result.exit_code, calls) == (0, [called]), result.output
