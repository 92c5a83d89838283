"""fine_tune: pruned weights trained on from their trained values, at the schedule's last learning rate.

Renda, Frankle and Carbin (2020), iterated as there: each level prunes what fine-tuning the level before ended with. It
trains as many steps as rewinding to k would, T - k, on the same batches. The optimizer is fresh, as after a rewind.
"""

from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The parents' trained weights, pruned, with a fresh optimizer."""
    return origin.pruned_parent()


BRANCH = Branch("fine-tuning", start, source="level", rewinds=False, weights="trained", rates="last")
