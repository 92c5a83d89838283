"""scratch_b: IMP's mask on freshly drawn weights, trained for as many operations as the dense network.

Scratch-B of Liu et al. (2019): `random_reinit`, which at k = 0 is their Scratch-E, for longer. The weights are drawn as
there, so that at k = 0 the two differ in their length alone; training begins at step 0 whatever k the mask is of.
"""

from dataclasses import replace

from harness.lottery.branch import Branch, Origin
from harness.lottery.branches import random_reinit
from harness.lottery.masks import Masks
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """New weights at step 0, and IMP's mask."""
    state, masks = random_reinit.start(origin)
    return replace(state, step=0), masks


BRANCH = Branch("scratch-B", start, source="mask", rewinds=False, mask="same", weights="fresh", steps="operations")
