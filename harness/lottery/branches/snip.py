"""snip: the snapshot's weights pruned at once by SNIP's sensitivity (STAB Appendix A)."""

from harness.base.seeds import SNIP
from harness.lottery.branch import Branch, Origin
from harness.lottery.criteria import snip
from harness.lottery.masks import Masks
from harness.training.state import State


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights, pruned to the level's exact count. All levels and data orders share the minibatches."""
    return origin.pruned_snapshot(snip.CRITERION, SNIP)


BRANCH = Branch("SNIP", start, source="dense", packed=True, weights="snapshot")
