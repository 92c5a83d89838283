"""random_reinit: IMP's mask on freshly drawn weights (STAB section 3).

At k = 0 this is the unstructured Scratch-E of Liu et al. (2019): the pruned structure trained from new weights for as
many steps as the dense network. `scratch_b` is their Scratch-B.
"""

from harness.base.seeds import REINITIALISATION
from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks
from harness.networks import initialise
from harness.training.state import State, read_network


def start(origin: Origin) -> tuple[State, Masks]:
    """New weights at step k, and IMP's mask."""
    initialise(origin.network, origin.seeds(REINITIALISATION))
    return read_network(origin.network, origin.k), origin.stored_masks()


BRANCH = Branch("random reinit", start, source="mask", rewinds=False, mask="same", weights="fresh")
