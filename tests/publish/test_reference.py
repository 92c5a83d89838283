"""References are judged again: those that git keeps as they are, and a made-up one after each kind of change."""

import re

import pytest

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.base.paths import references
from harness.publish.reference import altered, differences, open_reference
from harness.publish.reproduction import PAGE, page
from tests.conftest import ROOT

COMMITTED = references(ROOT)


@pytest.mark.parametrize(("paper", "scale"), COMMITTED)
def test_a_committed_reference_is_judged_today_as_it_says(paper, scale):
    """After a change that is meant to move verdicts or words: `harness publish --again`."""
    assert list(differences(open_reference(ROOT, paper, scale))) == []


def test_the_committed_page_is_what_the_references_give():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(ROOT)


def test_the_made_up_reference_passes(made):
    assert list(differences(made.opened())) == []


def move(published, by=-3.0):
    """One accuracy of LeNet's tickets at 10.7% in another place."""
    table = published.table()
    tickets = table[
        (table["branch"] == "imp") & (table["k"] == 0) & (table["level"] == 5) & (table["row"] == "network")
    ]
    table.loc[tickets.index[0], "test_accuracy"] += by
    published.write_table(table)


def test_a_moved_number_is_not_the_cards_and_under_a_forged_card_the_claims_are_not_the_tables(published):
    move(published)
    assert "table.parquet: its checksum is not the card's" in next(altered(published.opened()))
    published.list_again()
    lines = list(differences(published.opened()))
    assert any(line.startswith("claims.json: C1: ") and "judged again" in line for line in lines)
    assert not any(line.startswith("claims.json: C2") for line in lines)


def test_an_edited_verdict_is_not_what_the_table_gives(published):
    claims = read_json(published.folders.claims)
    claims[0]["verdict"] = "contradicted"
    write_json(published.folders.claims, claims)
    assert "claims.json: C1: verdict: 'contradicted', judged again 'supported'" in differences(published.opened())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda base: (base / "provenance.json").unlink(), "provenance.json: is missing"),
        (lambda base: (base / "stages/selection.json").unlink(), "selection.json: is missing"),
        (lambda base: (base / "ro-crate-metadata.json").write_text("{}"), "is no file of a reference"),
        (lambda base: (base / "looks.json").write_text("[]"), "looks.json: lacks looks of the card"),
        (lambda base: (base / "curves.parquet").write_bytes(b"PAR1"), r"curves\.parquet: can't be read"),
        (lambda base: (base / "evil.sh").write_text("rm"), "no file of a run is called that"),
        (lambda base: (base / "claims.json").write_text("[{}]"), "claims.json: claim 1: .*missing"),
    ],
)
def test_whatever_else_is_done_to_a_reference_is_told(published, change, message):
    change(published.folders.base)
    try:
        lines = list(differences(published.opened()))
    except HarnessError as error:  # a file that can't be read at all
        lines = [str(error)]
    assert any(re.search(message, line) for line in lines), lines


def test_a_card_of_another_run_is_refused(published):
    card = read_json(published.folders.card)
    write_json(published.folders.card, card | {"scale": "mini"})
    with pytest.raises(HarnessError, match="is of 'stabilizing-lth' at 'mini', not of this folder"):
        published.opened()
