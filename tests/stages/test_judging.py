"""The looks of a run outlive a judging again, lost and broken files, a check and a card."""

import pytest

from harness.base.errors import HarnessError
from harness.base.files import read_json
from harness.check.workspace import lay_out
from harness.claims.looks import Look, read_looks, sentence, write_looks
from harness.report.card import read_card
from harness.results.folders import Folders
from harness.stages.judging import looks_of
from harness.workflow.adopt import forget_altered

LOOKS = [
    Look(time="2026-12-01T00:00:00+00:00", revision="r", planned=False, replicates={"lenet": n}, verdicts={"C1": word})
    for n, word in ((5, "inconclusive"), (8, "supported"))
]


@pytest.fixture
def looked(copy):
    """A run that was looked at twice, with its card."""
    write_looks(copy.folders.looks, LOOKS)
    copy.stage("card")
    return copy


def test_a_run_that_judges_no_claim_has_no_look(tiny_run):
    assert read_looks(tiny_run.folders.looks) == []


def test_judging_again_keeps_the_looks_and_the_card_lists_them(looked):
    looked.stage("claims")
    looked.stage("card")
    assert read_looks(looked.folders.looks) == LOOKS
    card = read_card(looked.folders)
    assert card["looks"] == [look.model_dump() for look in LOOKS]
    assert "looks.json" in card["files"]
    assert sentence(looks_of(looked.folders)) == "looked at 2 times: 5, 8 replicates"


@pytest.mark.parametrize("content", [None, "", "[{}]", "[1]"])
def test_lost_and_broken_looks_are_those_of_the_card(looked, content):
    if content is None:
        looked.folders.looks.unlink()
    else:
        looked.folders.looks.write_text(content)
    looked.stage("claims")
    assert read_looks(looked.folders.looks) == LOOKS


def test_without_a_card_broken_looks_are_one_line_and_stay(looked):
    looked.folders.card.unlink()
    looked.folders.looks.write_text("[{}]")
    with pytest.raises(HarnessError, match=r"looks\.json: .*Restore it"):
        looked.stage("claims")
    assert looked.folders.looks.read_text() == "[{}]"


def test_looks_that_are_not_the_cards_are_made_again_from_it(looked):
    """A look that was taken out by hand comes back with the next `harness reproduce`."""
    write_looks(looked.folders.looks, LOOKS[1:])
    assert forget_altered(looked.context.spec, looked.folders) == ["looks.json", "claims.json"]
    looked.stage("claims")
    assert read_looks(looked.folders.looks) == LOOKS


def test_deleted_looks_are_made_again(looked):
    looked.folders.looks.unlink()
    assert forget_altered(looked.context.spec, looked.folders) == ["claims.json"]


def test_a_look_of_a_run_that_was_stopped_before_its_card_stays(looked):
    later = [*LOOKS, LOOKS[1].model_copy(update={"replicates": {"lenet": 9}})]
    write_looks(looked.folders.looks, later)
    assert forget_altered(looked.context.spec, looked.folders) == []
    looked.stage("claims")
    assert read_looks(looked.folders.looks) == later


def test_a_check_knows_the_runs_looks_and_leaves_them(looked, tmp_path):
    workspace = Folders(tmp_path / "check")
    lay_out(looked.context.spec, looked.folders, workspace)
    assert read_looks(workspace.looks) == LOOKS
    write_looks(workspace.looks, [])
    assert read_json(looked.folders.looks) == [look.model_dump() for look in LOOKS]
