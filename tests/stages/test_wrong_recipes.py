"""Wrong recipes and wrong steps on the mini scale's networks: each is caught by the band or the invariant it names."""

import pytest

from benchmarks.wrong_recipes import CASES, RESNET_CASES, RESULT, Case, outcome, right_chain


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return right_chain(tmp_path_factory.mktemp("chain") / "run")


def check(case: Case, ready) -> None:
    caught = outcome(case, ready if case.chain else None)
    assert caught.by == case.caught, caught


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_of_lenet(case, ready):
    check(case, ready)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("case", RESNET_CASES, ids=lambda case: case.name)
def test_of_resnet20(case):
    check(case, None)


def test_the_committed_table_has_every_case_and_says_which_are_not_caught():
    rows = [line.split(" | ") for line in RESULT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    told = {(network.removeprefix("| "), wrong): by for network, wrong, by in rows}
    assert len(told) == len(CASES) + len(RESNET_CASES)
    for case in (*CASES, *RESNET_CASES):
        by = told[case.experiment, case.name]
        assert by.startswith(("band: ", "invariant: ") if case.caught else ("**not caught**: ", "nothing: ")), by
