"""What a scale may ask of a criterion that prunes whole units."""

import pytest

from harness.base.errors import HarnessError
from harness.plan.settings import check_settings
from tests.tiny import tiny_spec

SWEEPS = [{"k": [0], "levels": 2}]


def test_levels_that_hold_a_unit_of_each_layer_are_taken():
    one_shot = {"densities": [0.107, 0.0016], "style": "one_shot", "criterion": "l1"}  # 64 + 1 + 10 of 50,200
    check_settings(tiny_spec(pruning=one_shot, sweeps=SWEEPS))


def test_a_level_too_low_for_one_unit_of_each_layer_is_refused():
    one_shot = {"densities": [0.107, 0.0014], "style": "one_shot", "criterion": "l1"}
    with pytest.raises(HarnessError) as refused:
        check_settings(tiny_spec(pruning=one_shot, sweeps=SWEEPS))
    line = (
        "experiments.lenet.sweeps: level 2 keeps 70 weights, but one unit of each layer has 75 in lenet-300-100; give"
    )
    assert line in str(refused.value)
    check_settings(tiny_spec(pruning={**one_shot, "criterion": "han"}, sweeps=SWEEPS))


def test_a_network_without_units_is_refused():
    imagenet = {"network": "squeezenet", "data": "imagenet", "change": {"augmentation": "resized_crop"}}
    spec = tiny_spec(**imagenet, pruning={"fraction": 0.5, "criterion": "thinet"})
    with pytest.raises(HarnessError, match=r"pruning.criterion: thinet prunes whole units, and squeezenet names none"):
        check_settings(spec)


def test_a_branch_of_units_asks_what_a_criterion_of_units_asks():
    imagenet = {"network": "squeezenet", "data": "imagenet", "change": {"augmentation": "resized_crop"}}
    sweeps = [{"k": [5], "levels": 1, "at": {1: {"group_lasso": 1}}}]
    spec = tiny_spec(**imagenet, pruning={"fraction": 0.5}, sweeps=sweeps)
    with pytest.raises(HarnessError, match=r"sweeps: branch group_lasso prunes whole units, and squeezenet names none"):
        check_settings(spec)
