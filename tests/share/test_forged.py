"""`harness verify` on a run that was altered before the harness itself collected, judged and listed it again."""

import io
from collections.abc import Callable

import pandas as pd
import pytest
from rich.console import Console

from harness.files import file_sha256, read_json, write_json, write_text
from harness.plan import stages
from harness.share.card import read_card
from harness.share.given import Given
from harness.share.recompare import choose_networks, measured, recompare
from harness.share.retrain import retrain
from harness.share.verify import CHECKS, Findings, _again, summary
from tests.share.conftest import Made
from tests.workflow.conftest import tiny_context

STABILITY = "lenet/c0/k5-stability"
ORDER = "lenet/r1/k5/L2-imp-o1"  # nothing starts from it
PARENT = "lenet/r1/k5/L1-imp-o0"


def given_of(made: Made) -> Given:
    return Given(made.context.spec, made.folders, read_card(made.folders), ())


def differences(made: Made) -> list[str]:
    given = given_of(made)
    return [line for _, check in CHECKS for line in check(given)]


def remade(made: Made) -> None:
    """All that is derived from records and stages, by the harness's own stages."""
    for stage in ("collect", "claims", "card"):
        made.stage(stage)


def again(made: Made, sample: int, seed: int = 0) -> tuple[Findings, str]:
    """What is found by training and comparing again, with what is printed of it."""
    found, stream, given = Findings(), io.StringIO(), given_of(made)
    _again(given, sample, seed, found, Console(file=stream, width=300))
    return found, stream.getvalue() + "\n".join(summary(given, found))


def forge_pairs(made: Made, change: Callable[[pd.DataFrame], None], suffix: str = ".parquet") -> None:
    """Alter what a stability stage wrote, with its record to match."""
    record, path = made.folders.stage(STABILITY), made.base / "stages" / f"{STABILITY}{suffix}"
    table = pd.read_parquet(path)
    change(table)
    table.to_parquet(path, index=False)
    found = read_json(record)
    found["outputs"][path.name] = file_sha256(path)
    write_json(record, found)


def mark_diverged(made: Made, run: str, **facts) -> None:
    store = made.context.store
    record = read_json(store.record_path(run))
    scores = {name: None for name in record if name.endswith(("accuracy", "loss"))}
    write_json(store.record_path(run), {**record, **scores, "status": "diverged", "diverged_at": 10, **facts})


def forge_instabilities(made: Made) -> None:
    """Every error in the middle of a line lowered, and the instabilities that follow from it."""

    def flat(curves: pd.DataFrame) -> None:
        ends = curves["alpha"].isin((0.0, 1.0))
        curves.loc[~ends, "error"] = 0.0

    def follow(table: pd.DataFrame) -> None:
        curves = pd.read_parquet(made.folders.curves(STABILITY))
        for row in table.index[table["comparison"] == "data_order"]:
            own = curves[(curves["run"] == table.loc[row, "run"]) & (curves["run_b"] == table.loc[row, "run_b"])]
            for (way, split), part in own.groupby(["batch_norm", "split"]):
                errors = part.sort_values("alpha")["error"].to_numpy()
                name = f"instability_{split}" + ("" if way == "averaged" else "_reestimated")
                table.loc[row, name] = errors.max() - (errors[0] + errors[-1]) / 2

    forge_pairs(made, flat, ".curves.parquet")
    forge_pairs(made, follow)


def test_a_run_as_it_was_made_has_no_difference_and_its_pairs_compare_to_the_same_numbers(made, tmp_path):
    assert not differences(made)
    given = given_of(made)
    found = list(recompare(given, 1000, 0, tmp_path))
    assert len(found) == len(measured(given)) == 2 * (1 + 1 + 2 * (2 + 1 + 1))
    assert all(one.exact and not one.differences for one in found)
    assert {one.pair.interpolated for one in list(recompare(given, 2, 0, tmp_path))} == {True, False}


@pytest.mark.parametrize("stored", [True, False])
def test_measures_of_pairs_that_all_files_agree_on_are_found_by_comparing_again(copy, stored):
    def nearer(table: pd.DataFrame) -> None:
        table["distance"] *= 0.5
        table["angle"] *= 0.5

    forge_pairs(copy, nearer)
    forge_instabilities(copy)
    remade(copy)
    assert not differences(copy)
    if not stored:
        for path in copy.folders.runs.rglob("*.safetensors"):
            path.unlink()
    # otherwise the networks that are trained again are compared
    found, output = again(copy, 1000 if stored else 99)
    assert all(not one.differences for one in found.outcomes)
    wrong = [one for one in found.pairs if one.differences]
    assert wrong
    assert all(one.pair.run_b.k == 5 for one in wrong)
    assert "table.parquet: distance: " in output
    assert "curves.parquet: test, BatchNorm averaged: is not the error between the networks" in output
    assert f"{len(found.differences)} differences" in output


def test_networks_are_drawn_with_one_that_they_are_compared_with(made):
    given = given_of(made)
    pairs = [pair for _, pair in measured(given).values()]
    names, drawn = [run.id for run in given.runs()], set()
    for seed in range(200):
        one, other = choose_networks(names, pairs, 2, seed)
        drawn.add(one)
        assert any({pair.run.id, pair.run_b.id} == {one, other} for pair in pairs) or "snip" in one
    assert drawn == set(names)
    assert sorted(choose_networks(names, pairs, 99, 0)) == sorted(names)


def test_a_network_that_is_said_to_have_diverged_is_named_and_can_be_drawn(copy, tmp_path):
    mark_diverged(copy, ORDER)
    for stage in ("k0-stability", "k5-stability", "tickets"):
        copy.stage(f"lenet/c0/{stage}")
    remade(copy)
    assert not differences(copy)
    found, output = again(copy, 99)
    line = "ended ok, networks.json says diverged"
    assert f"DIFFERS {ORDER}, trained again: {line}" in output
    assert [one.run for one in found.outcomes if one.differences] == [ORDER]
    assert f"Diverged, and so in no claim: {ORDER}." in output


def test_without_its_mask_in_the_tickets_a_diverged_network_is_trained_from_its_ancestors(copy, tmp_path):
    for run, status in ((PARENT, "diverged"), *((name, "ancestor_diverged") for name in below(PARENT))):
        mark_diverged(copy, run, status=status, diverged_at=10 if status == "diverged" else None)
    given = given_of(copy)
    write_json(copy.folders.networks, {**read_json(copy.folders.networks), **records(copy)})
    for path in copy.folders.runs.rglob("*.safetensors"):
        path.unlink()
    outcome = retrain(given, next(run for run in given.runs() if run.id == PARENT), tmp_path)
    assert outcome.differences == ["ended ok, networks.json says diverged"]


def below(run: str) -> list[str]:
    """The networks that start from PARENT or from one that does."""
    assert run == PARENT
    return [f"lenet/r1/k5/L2-{name}" for name in ("imp-o0", "imp-o1", "random_prune-o0")]


def records(made: Made) -> dict:
    return {name: read_json(made.context.store.record_path(name)) for name in (PARENT, *below(PARENT))}


@pytest.mark.parametrize(
    ("run", "change", "message"),
    [
        (ORDER, {"status": "ancestor_diverged", "diverged_at": None}, "its status is ancestor_diverged, and that of"),
        ("lenet/r1/k5/L2-imp-o0", {}, f"{ORDER}: its status is ok, and that of what it starts from diverged"),
        (ORDER, {"test_accuracy": 50.0}, "test_accuracy is 50.0 where its status is diverged"),
        (ORDER, {"diverged_at": None}, "diverged_at is None where its status is diverged"),
        (ORDER, {"diverged_at": 31}, "diverged_at is 31 where its status is diverged"),
    ],
)
def test_a_status_that_its_ancestors_or_scores_contradict_is_found(copy, run, change, message):
    mark_diverged(copy, run, **change)
    remade(copy)
    assert any(line.startswith("networks.json: ") and message in line for line in differences(copy))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("density", 0.5),
        ("remaining", 7),
        ("id", "lenet/r0/k0/L0-dense-o0"),
        ("level", 1),
        ("test_loss", 0.25),
        ("validation_accuracy", 1.0),
        ("parts", {}),
        ("inputs", {}),
    ],
)
def test_what_networks_json_says_is_held_against_the_plan_and_the_table(copy, field, value):
    found = read_json(copy.folders.networks)
    found[ORDER][field] = value
    write_json(copy.folders.networks, found)
    copy.stage("card")
    lines = [line for line in differences(copy) if ORDER in line]
    assert lines
    assert all(line.startswith(("networks.json", "table.parquet")) for line in lines)


def test_networks_that_did_diverge_are_no_difference_and_diverge_again(tmp_path):
    run = Made(tiny_context(tmp_path / "run", change={"steps": 30, "learning_rate": 1e30}))
    for stage in stages(run.context.spec):
        run.stage(stage.name)
    run.stage("collect")
    run.stage("claims")
    for name in ("index.html", "report.md"):
        write_text(run.folders.report / name, "page")
    run.stage("card")
    assert not differences(run)
    found, output = again(run, 2)
    assert [one.differences for one in found.outcomes] == [[], []]
    assert "Diverged, and so in no claim: lenet/r0/k0/L0-dense-o0, lenet/r1/k0/L0-dense-o0." in output
