"""gradual: magnitude pruning while the network trains (Zhu & Gupta, arXiv 1710.01878).

The density falls from 1 to the level's by a cubic, fast at first. Each layer loses the same share. Pruning begins and
ends at the steps of 3,000 and 7,000 in 11,719, and takes place every 100: the settings of LeNet-300-100 in the public
code of RigL (arXiv 1911.11134). A pruned weight is 0 and does not come back.
"""

from fractions import Fraction

from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.masks import Masks, by_layer, dense_masks, keep_count, keep_largest
from harness.training.changes import Change, Changes, Moment
from harness.training.state import State

BEGIN, END, PRUNINGS = Fraction(3000, 11719), Fraction(7000, 11719), 41


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights, all of them."""
    snapshots = origin.snapshots()
    return snapshots.rewound(), dense_masks(snapshots.weights, origin.prunable)


def changes(origin: Origin, span: Span) -> Changes:
    """Density final + (1 - final) (1 - progress)^3, progress from 0 to 1 over the prunings."""
    begin, end = span.at(BEGIN), span.at(END)
    steps = [begin + (end - begin) * pruning // (PRUNINGS - 1) for pruning in range(PRUNINGS)]

    def prune(moment: Moment) -> Change:
        pruning = max(place for place, step in enumerate(steps) if step == moment.step)
        density = origin.density + (1 - origin.density) * (1 - pruning / (PRUNINGS - 1)) ** 3
        sizes = {name: weight.abs() for name, weight in moment.weights.items()}
        total = sum(mask[0].numel() for mask in moment.masks.values())
        keep = keep_count(total, density)
        return Change(keep_largest(by_layer(sizes, moment.masks), moment.masks, keep))

    return Changes(frozenset(steps), prune)


BRANCH = Branch("gradual pruning", start, source="dense", weights="snapshot", changes=changes)
