"""The invariants of a subnetwork: they hold for what the paper defines, and for no replicate with a planted breach."""

import pytest
import torch

from harness.lottery import invariants
from harness.lottery.masks import dense_masks, prune_by_magnitude, shuffled
from harness.training.audit import Broken, require
from harness.training.state import State

NAMES = ["a", "b"]


def weights(seed=0, replicates=3):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (6, 5), "b": (4,), "bias": (2,)}
    return {name: torch.randn(replicates, *shape, generator=generator) for name, shape in shapes.items()}


FINALS = weights()
PARENTS = prune_by_magnitude(FINALS, dense_masks(FINALS, NAMES), 20)
MASKS = prune_by_magnitude(FINALS, PARENTS, 17)  # 0.5 of 34


def copied(masks):
    return {name: mask.clone() for name, mask in masks.items()}


def swapped(replicate, to_keep, to_prune):
    """MASKS with one position of `a` kept and another pruned in one replicate."""
    masks = copied(MASKS)
    masks["a"].flatten(1)[replicate, to_keep] = 1
    masks["a"].flatten(1)[replicate, to_prune] = 0
    return masks


def broken_at(checks, invariant):
    with pytest.raises(Broken, match=invariant) as broken:
        require(checks)
    return broken.value.position


def test_a_mask_by_magnitude_holds():
    assert require(invariants.counted(MASKS, NAMES, 0.5)) == ["exact number of kept weights"]
    assert require(invariants.pruned(MASKS, PARENTS, FINALS, by_magnitude=True)) == [
        "masks nest",
        "magnitude threshold",
    ]
    assert require(invariants.pruned(PARENTS, None, FINALS, by_magnitude=True)) == ["masks nest", "magnitude threshold"]


def test_one_weight_more_or_of_another_tensor_breaks_the_count():
    more = copied(MASKS)
    more["a"].flatten(1)[2, int((MASKS["a"].flatten(1)[2] == 0).nonzero()[0])] = 1
    assert broken_at(invariants.counted(more, NAMES, 0.5), r"exact number of kept weights \(18, not 17\)") == 2
    broken_at(invariants.counted({**MASKS, "bias": torch.zeros(3, 2)}, NAMES, 17 / 36), "exact number")
    broken_at(invariants.counted({name: mask / 2 for name, mask in MASKS.items()}, NAMES, 0.0), "exact number")


def test_a_weight_that_comes_back_breaks_the_nesting():
    gone, kept = (
        (flat[1] == value).nonzero()[0] for flat, value in ((PARENTS["a"].flatten(1), 0), (MASKS["a"].flatten(1), 1))
    )
    checks = invariants.pruned(swapped(1, gone, kept), PARENTS, FINALS, by_magnitude=False)
    assert broken_at(checks, "masks nest") == 1


def test_a_smaller_weight_kept_for_a_larger_one_breaks_the_threshold():
    size, mask, alive = FINALS["a"].flatten(1)[1].abs(), MASKS["a"].flatten(1)[1], PARENTS["a"].flatten(1)[1]
    smaller = torch.where((alive == 1) & (mask == 0), size, -1).argmax()
    larger = torch.where(mask == 1, size, -1).argmax()
    wrong = swapped(1, smaller, larger)
    assert broken_at(invariants.pruned(wrong, PARENTS, FINALS, by_magnitude=True), "magnitude threshold") == 1
    assert require(invariants.pruned(wrong, PARENTS, FINALS, by_magnitude=False)) == ["masks nest"]


def test_relations_to_imps_mask():
    other = shuffled(MASKS, [("t", r) for r in range(3)])
    assert require(invariants.related(MASKS, MASKS, "same")) == ["IMP's mask"]
    assert len(require(invariants.related(other, MASKS, "shuffled"))) == 1
    assert broken_at(invariants.related(other, MASKS, "same"), "IMP's mask") == 0
    assert broken_at(invariants.related(MASKS, MASKS, "shuffled"), "shuffled in each layer") == 0
    wide = {"a": MASKS["b"], "b": MASKS["a"]}
    broken_at(invariants.related(wide, {"a": MASKS["a"][:, :4, 0], "b": MASKS["a"]}, "shuffled"), "shuffled")
    assert require(invariants.related(other, MASKS, "own")) == []
    assert require(invariants.related(MASKS, MASKS, "same", "SNIP")) == ["SNIP's mask"]


def start_of(**changes):
    snapshot = State(5, weights(1), {"mean": torch.ones(3, 2)}, {"momentum/a": torch.ones(3, 1)}, 5)
    fields = {"start": snapshot.rewound(), "step": 5, "masks": MASKS, "before": snapshot, "weights": "snapshot"}
    return invariants.started(**{**fields, "continues": False, **changes})


def test_the_start_is_the_snapshot_times_the_mask():
    assert require(start_of()) == ["step of the start", "start is snapshot * mask", "optimizer is fresh"]
    anew = State(5, weights(2), {"mean": torch.ones(3, 2)})
    assert broken_at(start_of(start=anew), "start is snapshot") == 0
    assert require(start_of(start=anew, weights="fresh")) == ["step of the start", "weights drawn anew"]
    assert broken_at(start_of(weights="fresh"), "weights drawn anew") == 0
    masked = {name: value * MASKS[name] if name in MASKS else value for name, value in weights(1).items()}
    require(start_of(start=State(5, masked, {"mean": torch.ones(3, 2)})))
    last = weights(1)
    last["bias"][2, 1] += 1e-7  # weights that are never pruned count too
    assert broken_at(start_of(start=State(5, last, {"mean": torch.ones(3, 2)})), "start is snapshot") == 2
    other_statistics = State(5, weights(1), {"mean": torch.zeros(3, 2)})
    broken_at(start_of(start=other_statistics), "start is snapshot")


def test_the_start_of_trained_weights_is_the_parents_end_and_not_the_snapshot():
    ends = State(5, weights(3), {"mean": torch.ones(3, 2)})
    found = require(start_of(start=ends, before=ends, weights="trained"))
    assert found == ["step of the start", "start is trained weights * mask", "optimizer is fresh"]
    rewound = State(5, weights(1), {"mean": torch.ones(3, 2)})
    assert broken_at(start_of(start=rewound, before=ends, weights="trained"), "start is trained weights") == 0


def test_signs_are_kept_where_magnitudes_are_drawn_anew():
    snapshot, drawn = weights(1), weights(4)
    signed = {name: drawn[name].abs() * snapshot[name].sign() if name in MASKS else snapshot[name] for name in drawn}
    statistics = {"mean": torch.ones(3, 2)}
    found = require(start_of(start=State(5, signed, statistics), weights="signs"))
    assert found == ["step of the start", "signs kept, magnitudes drawn anew", "optimizer is fresh"]
    kept = State(5, weights(1), statistics)
    assert broken_at(start_of(start=kept, weights="signs"), "magnitudes drawn anew") == 0
    flipped = {**signed, "a": signed["a"].clone()}
    place = tuple(torch.nonzero(MASKS["a"][1])[0])
    flipped["a"][1][place] *= -1
    assert broken_at(start_of(start=State(5, flipped, statistics), weights="signs"), "signs kept") == 1
    others = {**signed, "bias": -signed["bias"]}  # what is never pruned stays as it was
    broken_at(start_of(start=State(5, others, statistics), weights="signs"), "signs kept")


def test_the_step_and_the_optimizer_of_the_start():
    broken_at(start_of(step=6), r"step of the start \(5, not 6\)")
    snapshot = State(5, weights(1), {}, {"momentum/a": torch.ones(3, 1)}, 5)
    broken_at(start_of(start=snapshot, before=snapshot), "optimizer is fresh")
    assert require(start_of(start=snapshot, before=snapshot, continues=True))[-1] == "optimizer goes on"
    broken_at(start_of(start=snapshot.rewound(), before=snapshot, continues=True), "optimizer goes on")


def test_pruned_weights_are_zero_at_the_end_but_for_a_network_that_diverged():
    final = State(9, {name: value * MASKS.get(name, 1.0) for name, value in FINALS.items()}, {})
    assert require(invariants.ended(final, MASKS)) == ["pruned weights stay zero"]
    assert require(invariants.ended(final, {})) == []
    broken_at(invariants.ended(State(9, FINALS, {}), MASKS), "pruned weights stay zero")
    final.weights["a"][1] = torch.nan
    require(invariants.ended(final, MASKS))
