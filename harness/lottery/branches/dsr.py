"""dsr: connections move between layers (Mostafa and Wang, dynamic sparse reparameterisation, arXiv 1902.05967).

A random mask, as large a share of each layer; after every epoch but the last, the smallest 11% of all weights are
dropped, and as many are drawn among the free ones, at 0, each layer's number in proportion to its survivors. The
authors' code drops what is below a threshold, which it doubles or halves to come near this number.
"""

import torch
from torch import Tensor

from harness.base.seeds import CRITERION, REWIRING
from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.criteria import random_uniform
from harness.lottery.masks import Masks
from harness.lottery.rewiring import at_random, shared_out, smallest
from harness.training.changes import Change, Changes, Moment
from harness.training.state import State

SHARE = 600 / 5324  # the code's number for LeNet-300-100 with 2% of its weights


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights under the random mask, which all data orders share."""
    return origin.pruned_snapshot(random_uniform.CRITERION, CRITERION)


def changes(origin: Origin, span: Span) -> Changes:
    """After every epoch but the last."""
    seeds = origin.seeds(REWIRING)

    def rewire(moment: Moment) -> Change:
        rows: dict[str, list[Tensor]] = {name: [] for name in moment.masks}
        for replicate, seed in enumerate(seeds):
            weights = torch.cat([weight[replicate].flatten() for weight in moment.weights.values()])
            free = {name: mask[replicate].flatten() == 0 for name, mask in moment.masks.items()}
            on = ~torch.cat(list(free.values()))
            count = min(int(SHARE * int(on.sum())), int((~on).sum()))
            kept = (on & ~smallest(weights, on, count)).split([row.numel() for row in free.values()])
            survivors = {name: int(row.sum()) for name, row in zip(free, kept, strict=True)}
            grown = shared_out(count, survivors, {name: int(row.sum()) for name, row in free.items()})
            for row, (name, room) in zip(kept, free.items(), strict=True):
                rows[name].append(row | at_random(room, grown[name], (*seed, moment.step, name)))
        return Change({name: torch.stack(rows[name]).view_as(mask).to(mask) for name, mask in moment.masks.items()})

    return Changes(span.after_epochs(), rewire)


BRANCH = Branch("DSR", start, source="dense", weights="snapshot", changes=changes)
