"""Named seeds: the same for ever, different for different names, and no draw depends on another."""

import itertools

import numpy as np
import pytest
import torch

from harness.base.seeds import numpy_generator, seed, torch_generator
from harness.training.batches import Batches

# first 16 hex digits of `printf 'lenet\x1f3\x1finitialisation' | sha256sum` and so on, halved: may never change
PINNED = [
    (("lenet", 3, "initialisation"), 9088735891311987407),
    (("lenet", 0, "data order", 0), 6067218341720444900),
    (("a", "bc"), 3541643986987961325),
    (("ab", "c"), 5407664830305705635),
]


@pytest.mark.parametrize(("name", "expected"), PINNED)
def test_seeds_are_pinned(name, expected):
    assert seed(*name) == expected


@pytest.mark.parametrize("name", [name for name, _ in PINNED])
def test_generators_are_the_libraries_own_with_that_seed(name):
    theirs = np.random.PCG64(seed(*name))
    assert numpy_generator(*name).bit_generator.random_raw(5).tolist() == theirs.random_raw(5).tolist()
    own = torch.randn(5, generator=torch.Generator().manual_seed(seed(*name)))
    assert torch.equal(torch.randn(5, generator=torch_generator(*name)), own)


def test_parts_of_a_name_do_not_run_together():
    assert seed("a", "bc") != seed("ab", "c") != seed("abc") != seed("a", "b", "c")
    assert seed("x", 1, 11) != seed("x", 11, 1) != seed("x", 111)


def test_every_draw_of_a_large_scale_has_a_seed_of_its_own():
    purposes = ("initialisation", "data order", "random prune", "reinitialisation")
    names = list(itertools.product(("lenet", "resnet20-standard"), range(20), purposes, range(50)))
    seeds = {seed(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= value < 2**63 for value in seeds)


def test_a_draw_added_or_moved_changes_no_other():
    def draws(names):
        return {name: numpy_generator(*name).random(3).tolist() for name in names}

    names = [("lenet", replicate, "data order", 0) for replicate in range(3)]
    more = [("lenet", 0, "new purpose"), *reversed(names), ("lenet", 7, "initialisation")]
    alone, among = draws(names), draws(more)
    assert all(alone[name] == among[name] for name in names)
    assert len({tuple(values) for values in among.values()}) == 5


def test_a_draw_does_not_touch_nor_follow_the_global_generators():
    np.random.seed(5)
    torch.manual_seed(5)
    first = numpy_generator("a").random(), torch.rand(1, generator=torch_generator("a")).item()
    after = np.random.random(), torch.rand(1).item()
    np.random.seed(5)
    torch.manual_seed(5)
    assert after == (np.random.random(), torch.rand(1).item())
    assert first == (numpy_generator("a").random(), torch.rand(1, generator=torch_generator("a")).item())


SAMPLES, BATCH = 50, 8  # six batches an epoch, two samples left over


def batches(order: int, augmentation: str = "none", replicates: tuple[int, ...] = (0,)) -> Batches:
    y = torch.arange(SAMPLES)  # a label for each sample, so that a batch names its samples
    x = torch.randn(SAMPLES, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return Batches(x, y, BATCH, [("lenet", replicate, "data order", order) for replicate in replicates], augmentation)


@pytest.mark.parametrize("augmentation", ["none", "flip_crop"])
@pytest.mark.parametrize("k", [0, 1, 5, 6, 13])
def test_a_data_order_is_the_same_from_whatever_step_it_is_taken_up(augmentation, k):
    whole = batches(0, augmentation)
    expected = [whole.batch(step) for step in range(20)]
    later = batches(0, augmentation)
    for step in range(k, 20):
        x, y = later.batch(step)
        assert torch.equal(x, expected[step][0])
        assert torch.equal(y, expected[step][1])


def test_another_data_order_differs_at_every_step_of_every_epoch():
    first, second = batches(0), batches(1)
    for step in range(20):
        assert first.batch(step)[1].tolist() != second.batch(step)[1].tolist()


def test_an_epoch_takes_no_sample_twice_and_the_next_takes_them_in_another_order():
    one = batches(0)
    epochs = [torch.cat([one.batch(6 * epoch + step)[1][0] for step in range(6)]).tolist() for epoch in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 48
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_replicates_order_does_not_depend_on_who_trains_beside_it():
    together, alone = batches(0, "flip_crop", (0, 1, 2)), batches(0, "flip_crop", (1,))
    for step in (0, 7, 19):
        assert torch.equal(together.batch(step)[0][1], alone.batch(step)[0][0])
        assert together.batch(step)[1][0].tolist() != together.batch(step)[1][1].tolist()
