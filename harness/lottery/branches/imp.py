"""imp: iterative magnitude pruning with rewinding (STAB section 3, Algorithm 1)."""

from harness.base.seeds import CRITERION
from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights, with the parents' final weights pruned. Further data orders reuse the stored mask."""
    if origin.first_order:
        masks = origin.pruned(origin.criterion, *origin.parent(), order=CRITERION)
    else:
        masks = origin.stored_masks()
    return origin.snapshots().rewound(), masks


BRANCH = Branch("IMP", start, source="level", packed=True, near_dense=True, mask="same", weights="snapshot")
