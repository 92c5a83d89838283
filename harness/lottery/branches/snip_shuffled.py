"""snip_shuffled: SNIP's mask with each layer's positions shuffled, on the same weights.

Frankle et al. (2021): SNIP without its choice of weights, of which only the share of each layer is left.
"""

from harness.base.seeds import RANDOM_PRUNE
from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks, shuffled
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights, and SNIP's mask shuffled."""
    return origin.snapshots().rewound(), shuffled(origin.stored_masks(), origin.seeds(RANDOM_PRUNE))


BRANCH = Branch("SNIP, shuffled", start, source="mask", of="snip", mask="shuffled", weights="snapshot")
