"""`harness verify` on a run that was altered before the harness itself collected, judged and listed it again."""

import io
from collections.abc import Callable

import pandas as pd
import pytest
from rich.console import Console

from harness.base.files import read_json, write_json, write_text
from harness.plan.runs import stages
from harness.report.card import read_card
from harness.verify.recompare import choose_networks, measured, recompare
from harness.verify.retrain import retrain
from harness.verify.shared_run import SharedRun
from harness.verify.verify import Findings, compute_again, summary
from tests.tiny import TinyRun, tiny_context
from tests.verify.alter import change_table, lines_of, record_again

STABILITY = "lenet/c0/k5-stability"
ORDER = "lenet/r1/k5/L2-imp-o1"  # nothing starts from it
PARENT = "lenet/r1/k5/L1-imp-o0"


def shared_of(tiny_run: TinyRun) -> SharedRun:
    return SharedRun(tiny_run.context.spec, tiny_run.folders, read_card(tiny_run.folders), ())


def differences(tiny_run: TinyRun) -> list[str]:
    return lines_of(shared_of(tiny_run))


def remade(tiny_run: TinyRun) -> None:
    """All that is derived from records and stages, by the harness's own stages."""
    for stage in ("collect", "claims", "card"):
        tiny_run.stage(stage)


def again(tiny_run: TinyRun, sample: int, seed: int = 0) -> tuple[Findings, str]:
    """What is found by training and comparing again, with what is printed of it."""
    stream, shared = io.StringIO(), shared_of(tiny_run)
    found = Findings(Console(file=stream, width=300))
    compute_again(shared, sample, seed, found)
    return found, stream.getvalue() + "\n".join(summary(shared, found))


def forge_pairs(tiny_run: TinyRun, change: Callable[[pd.DataFrame], None], suffix: str = ".parquet") -> None:
    """Alter what a stability stage wrote, with its record to match."""
    change_table(tiny_run.base / "stages" / f"{STABILITY}{suffix}", change)
    record_again(tiny_run.base, STABILITY, f"stages/{STABILITY}{suffix}")


def mark_diverged(tiny_run: TinyRun, run: str, **facts) -> None:
    store = tiny_run.context.store
    record = read_json(store.record_path(run))
    scores = {name: None for name in record if name.endswith(("accuracy", "loss"))}
    store.write_record(run, {**record, **scores, "status": "diverged", "diverged_at": 10, **facts})


def forge_instabilities(tiny_run: TinyRun) -> None:
    """Every error in the middle of a line lowered, and the instabilities that follow from it."""

    def flat(curves: pd.DataFrame) -> None:
        ends = curves["alpha"].isin((0.0, 1.0))
        curves.loc[~ends, "error"] = 0.0

    def follow(table: pd.DataFrame) -> None:
        curves = pd.read_parquet(tiny_run.folders.curves(STABILITY))
        for row in table.index[table["comparison"] == "data_order"]:
            own = curves[(curves["run"] == table.loc[row, "run"]) & (curves["run_b"] == table.loc[row, "run_b"])]
            for (way, split), part in own.groupby(["batch_norm", "split"]):
                errors = part.sort_values("alpha")["error"].to_numpy()
                name = f"instability_{split}" + ("" if way == "averaged" else "_reestimated")
                table.loc[row, name] = errors.max() - (errors[0] + errors[-1]) / 2

    forge_pairs(tiny_run, flat, ".curves.parquet")
    forge_pairs(tiny_run, follow)


def test_a_run_as_it_was_made_has_no_difference_and_its_pairs_compare_to_the_same_numbers(tiny_run, tmp_path):
    assert not differences(tiny_run)
    shared = shared_of(tiny_run)
    found = list(recompare(shared, 1000, 0, tmp_path))
    assert len(found) == len(measured(shared)) == 2 * (1 + 1 + 2 * (2 + 1 + 1))
    assert all(one.exact and not one.differences for one in found)
    assert {one.pair.interpolated for one in list(recompare(shared, 2, 0, tmp_path))} == {True, False}


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


def test_networks_are_drawn_with_one_that_they_are_compared_with(tiny_run):
    shared = shared_of(tiny_run)
    pairs = [pair for _, pair in measured(shared).values()]
    names, drawn = [run.id for run in shared.runs()], set()
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
    shared = shared_of(copy)
    write_json(copy.folders.networks, {**read_json(copy.folders.networks), **records(copy)})
    for path in copy.folders.runs.rglob("*.safetensors"):
        path.unlink()
    outcome = retrain(shared, next(run for run in shared.runs() if run.id == PARENT), tmp_path)
    assert outcome.differences == ["ended ok, networks.json says diverged"]


def below(run: str) -> list[str]:
    """The networks that start from PARENT or from one that does."""
    assert run == PARENT
    return [f"lenet/r1/k5/L2-{name}" for name in ("imp-o0", "imp-o1", "random_prune-o0")]


def records(tiny_run: TinyRun) -> dict:
    return {name: read_json(tiny_run.context.store.record_path(name)) for name in (PARENT, *below(PARENT))}


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
        ("train_loss", 1.0),
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
    run = TinyRun(tiny_context(tmp_path / "run", change={"steps": 30, "learning_rate": 1e30}))
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


def test_instabilities_are_held_against_their_curves_and_descriptions_of_pairs_against_the_plan(copy):
    def steadier(table: pd.DataFrame) -> None:
        table.loc[table["comparison"] == "data_order", "instability_test"] -= 1.0

    forge_pairs(copy, steadier)
    remade(copy)
    lines = differences(copy)
    assert lines
    assert all(line.startswith("table.parquet: ") and "instability_test is not its curve's" in line for line in lines)
    forge_pairs(copy, lambda table: table.__setitem__("k", table["k"] + 1))
    remade(copy)
    assert any("table.parquet: " in line and ": k: 6, made again 5" in line for line in differences(copy))
    forge_pairs(copy, lambda table: table.__setitem__("train_loss", 1.0))
    remade(copy)
    assert any("table.parquet: " in line and ": train_loss: 1.0, made again None" in line for line in differences(copy))


def test_a_row_is_found_that_would_be_shown_as_another_pair(copy):
    table = pd.read_parquet(copy.folders.table)
    pair = table[table["row"] == "pair"].iloc[[0]]
    names = {name: pair[name].iloc[0] for name in ("run", "run_b", "comparison")}
    fake = pair.assign(run="{run} and {run_b} ({comparison})".format(**names), run_b="", comparison="")
    pd.concat([fake, table]).to_parquet(copy.folders.table, index=False)
    copy.stage("claims")
    copy.stage("card")
    assert any(line.startswith("table.parquet: ") and "has no place there" in line for line in differences(copy))


@pytest.mark.parametrize("field", ["training_share", "network_core_seconds", "cpu_seconds", "started", "stages"])
def test_what_provenance_says_of_all_stages_follows_from_their_records(copy, field):
    found = read_json(copy.folders.provenance)
    changed = {"started": "2000-01-01T00:00:00+00:00", "stages": found["stages"][1:]}.get(field, 0.5)
    write_json(copy.folders.provenance, {**found, field: changed})
    copy.stage("card")
    lines = differences(copy)
    assert lines
    assert all(line.startswith(f"provenance.json: {field}: ") for line in lines)


def test_other_words_of_a_crate_count_where_the_same_code_wrote_it_and_checksums_everywhere(copy, monkeypatch):
    crate = read_json(copy.folders.crate)
    entry = next(entity for entity in crate["@graph"] if entity["@id"] == "claims.json")
    more = {"@id": "#more", "@type": "Thing", "name": "More"}
    write_json(copy.folders.crate, {**crate, "@graph": [*crate["@graph"], more]})
    line = "ro-crate-metadata.json: #more: has no place there"
    monkeypatch.setattr("harness.verify.rebuild.same_words", lambda shared: True)
    assert differences(copy) == [line]
    monkeypatch.setattr("harness.verify.rebuild.same_words", lambda shared: False)
    assert not differences(copy)
    entry["sha256"] = "0" * 64
    write_json(copy.folders.crate, crate)
    assert [line.partition("'")[0] for line in differences(copy)] == ["ro-crate-metadata.json: claims.json: sha256: "]
