"""dense: the dense network trained again from its snapshot, optimizer state included, with another data order."""

from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot, and no mask."""
    return origin.snapshots(), {}


BRANCH = Branch("dense", start, source="dense", weights="snapshot")
