"""Channel pruning by LASSO: which units, then the next layer's weights anew (He, Zhang and Sun, arXiv 1707.06168).

The next layer's outputs Y of the network before pruning are put together from the units' parts X_c W_c of the network
as it is pruned so far. The units that remain are those with factors other than 0 where
|Y - sum beta_c X_c W_c / |W_c||^2 / 2 + lambda |beta|_1 is smallest, with lambda lowered from where none is left until
one more would come in. Then the weights that read them are those of least squares.
"""

import torch
from torch import Tensor

from harness.lottery.layerwise import Junction, criterion

NEARLY = 1e-10  # relative: what is nothing but rounding


def path(gram: Tensor, aim: Tensor, most: int) -> tuple[Tensor, float]:
    """The LASSO's factors [units] and lambda at the end of the path, where a unit more than `most` would come in.

    They minimise beta^T gram beta / 2 - aim^T beta + lambda |beta|_1: the homotopy from the largest lambda down
    (Osborne, Presnell and Turlach, 2000). It ends at 0 if `most` units or fewer explain everything.
    """
    beta, there = torch.zeros_like(aim), torch.zeros(len(aim), dtype=torch.bool)
    level = top = float(aim.abs().max())
    came = int(aim.abs().argmax())
    left = -1  # the unit that has just gone
    while level > NEARLY * top and int(there.sum()) + (came >= 0) <= most:
        if came >= 0:
            there[came] = True
        slack = aim - gram @ beta  # at lambda for the units that are there, below it for the others
        slope = torch.zeros_like(aim)
        slope[there] = _inverse(gram[there][:, there]) @ slack[there].sign()
        fall = gram @ slope
        gaps = torch.stack([1 - fall, 1 + fall])  # 0 for what falls as those that are there do, and never joins
        steps = torch.where(gaps > NEARLY, torch.stack([level - slack, level + slack]) / gaps, torch.inf)
        steps[:, there] = torch.inf
        if left >= 0:  # it is at lambda still, and does not come back at once
            steps[:, left] = torch.where(steps[:, left] > NEARLY * level, steps[:, left], torch.inf)
        joins = steps.amin(0)
        leaves = torch.where(there & (beta * slope < 0), -beta / slope, torch.inf)
        join, leave = float(joins.min()), float(leaves.min())
        step = min(join, leave, level)
        beta, level = beta + step * slope, level - step
        came = left = -1
        if step == leave:
            left = int(leaves.argmin())
            there[left], beta[left] = False, 0.0
        elif step == join:
            came = int(joins.argmin())
    return beta, level


def _inverse(gram: Tensor) -> Tensor:
    """The pseudo-inverse of mean products: units may say the same, or nothing."""
    return torch.linalg.pinv(gram, rtol=NEARLY, hermitian=True)


def choose(junction: Junction) -> Tensor:
    """The size of each unit's factor, [units]: other than 0 for at most as many as will be kept."""
    own, both = (part.cpu() for part in junction.products())
    units, taps, outputs = junction.outgoing.shape
    weight = junction.outgoing.cpu() * junction.alive[:, None, None]
    length = weight.flatten(1).norm(dim=1)
    weight = (weight / torch.where(length > 0, length, 1.0)[:, None, None]).view(units * taps, outputs)
    gram = (own * (weight @ weight.T)).view(units, taps, units, taps).sum((1, 3))
    aim = ((both @ junction.outgoing.cpu().flatten(0, 1)) * weight).view(units, -1).sum(1)
    return path(gram, aim, junction.keep)[0].abs()


def refit(junction: Junction, kept: Tensor) -> None:
    """The weights that read the kept units, by least squares to the outputs before pruning."""
    own, both = (part.cpu() for part in junction.products())
    weight = junction.outgoing
    taps = kept.repeat_interleave(weight.shape[1])
    aim = both[taps] @ weight.cpu().flatten(0, 1)
    new = _inverse(own[taps][:, taps]) @ aim
    weight[kept] = new.view(int(kept.sum()), *weight.shape[1:]).to(weight)


CRITERION = criterion(choose, refit)
