"""random_prune: IMP's mask with each layer's positions shuffled, on the same rewound weights (STAB section 3)."""

from harness.base.seeds import RANDOM_PRUNE
from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks, shuffled
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights, and IMP's mask shuffled."""
    return origin.snapshots().rewound(), shuffled(origin.stored_masks(), origin.seeds(RANDOM_PRUNE))


BRANCH = Branch("random prune", start, source="mask", near_dense=True, mask="shuffled", weights="snapshot")
