"""lr_rewind: pruned weights trained on from their trained values, with the learning rates from step k on.

Learning-rate rewinding of Renda, Frankle and Carbin (2020), iterated as there: the schedule goes back to step k, the
weights do not.
"""

from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The parents' trained weights, pruned, at step k of the schedule, with a fresh optimizer."""
    return origin.pruned_parent()


BRANCH = Branch("learning-rate rewinding", start, source="level", rewinds=False, weights="trained")
