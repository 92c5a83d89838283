"""ramp: weights below a rising threshold are pruned while the network trains (Narang et al., arXiv 1704.05119).

Each layer's threshold rises by one slope and then by one and a half times of it, so that it would end at the size below
which the level's share of that layer lies in the dense network. Pruning begins after an epoch, becomes steeper at a
quarter of the training, and ends at half of it. A pruned weight is 0 and does not come back.

What is a choice here: no layer falls below the level's share, and at the end each has exactly that; the paper's
sparsity is what comes out. It prunes recurrent networks; this prunes any.
"""

import torch
from torch import Tensor

from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.branches.gradual import start
from harness.lottery.masks import by_layer, keep_largest
from harness.training.changes import Change, Changes, Moment

RAMP, END, PRUNINGS, STEEPER = 0.25, 0.5, 40, 1.5


def threshold(size: float, step: int, begin: int, ramp: int, end: int) -> float:
    """A layer's threshold at a step; `size` is the one that it would end at."""
    slope = 2 * size / (2 * (ramp - begin) + 2 * STEEPER * (end - ramp))
    return slope * (min(step, ramp) - begin + 1 + (STEEPER * (step - ramp + 1) if step >= ramp else 0))


def changes(origin: Origin, span: Span) -> Changes:
    """About PRUNINGS times, the last time to the exact number."""
    ramp, end = span.at(RAMP), span.at(END)
    begin = min(span.first + span.epoch, ramp)
    dense = {name: origin.dense().weights[name].abs().flatten(1).double() for name in origin.prunable}
    sizes = {name: weight.quantile(1 - origin.density, dim=1).tolist() for name, weight in dense.items()}

    def prune(moment: Moment) -> Change:
        magnitudes = {name: weight.abs() for name, weight in moment.weights.items()}
        exact = keep_largest(by_layer(magnitudes, moment.masks), moment.masks, origin.keep())
        if moment.step == end:
            return Change(exact)

        def above(name: str) -> Tensor:
            limits = [threshold(size, moment.step, begin, ramp, end) for size in sizes[name]]
            limit = torch.tensor(limits).view(-1, *[1] * (magnitudes[name].dim() - 1))
            return torch.maximum(moment.masks[name] * (magnitudes[name] >= limit), exact[name])

        return Change({name: above(name) for name in moment.masks})

    interval = max(1, (end - begin) // PRUNINGS)
    return Changes(frozenset({*range(begin, end, interval), end}), prune)


BRANCH = Branch("threshold ramp", start, source="dense", weights="snapshot", changes=changes, reads_dense=True)
