"""Data-free pruning: the two most alike units of a layer become one (Srinivas and Babu, arXiv 1507.06149).

Unit j goes into unit i where s_ij = <a_j^2> eps_ij^2 is smallest: a_j are the weights that read j, and eps_ij is
|W_i - W_j| / |W_i + W_j| + |b_i - b_j| / |b_i + b_j| of the weights and biases that feed the two. Units are compared at
unit length, |W| = 1, since ReLU passes a factor on; what reads i gains what read j. Then the next two are sought.
"""

import torch
from torch import Tensor

from harness.lottery.layerwise import Junction, criterion

SMALLEST = 1e-30  # in place of 0 below a fraction: what is not alike at all stays a number
EXACT = "donot_use_mm_for_euclid_dist"  # by differences


def unlikeness(weight: Tensor, bias: Tensor) -> Tensor:
    """eps [units, units] of incoming weights [K, units] and biases [units]; 0 / 0 is 0."""
    length = weight.norm(dim=0)
    length = torch.where(length > 0, length, 1.0)
    rows, bias = (weight / length).T, bias / length
    apart, together = (torch.cdist(rows, other, compute_mode=EXACT) for other in (rows, -rows))
    of_bias = (bias[:, None] - bias).abs() / (bias[:, None] + bias).abs().clamp_min(SMALLEST)
    return apart / together.clamp_min(SMALLEST) + of_bias


def merges(junction: Junction, count: int) -> list[tuple[int, int, float]]:
    """The first `count` merges of a layer's units, in order: the unit that goes, the one that it goes into, its factor.

    What reads the second gains the factor times what read the first.
    """
    weight = junction.incoming.flatten(0, 1).cpu()
    length = weight.norm(dim=0)
    length = torch.where(length > 0, length, 1.0)
    eps = unlikeness(weight, junction.bias.cpu()) ** 2
    read = junction.outgoing.flatten(1).cpu() * length[:, None]
    size = (read**2).mean(1)
    possible = (junction.alive[:, None] & junction.alive).fill_diagonal_(False)
    result = []
    for _ in range(count):
        saliency = torch.where(possible, eps * size, torch.inf)
        into, gone = divmod(int(saliency.argmin()), len(eps))
        result.append((gone, into, float(length[gone] / length[into])))
        read[into] += read[gone]
        size[into] = (read[into] ** 2).mean()
        possible[gone] = possible[:, gone] = False
    return result


def choose(junction: Junction) -> Tensor:
    """How late each unit goes, [units]; the units that are left at the end are the latest."""
    count = int(junction.alive.sum())
    late = torch.full((len(junction.alive),), float(count), dtype=torch.float64)
    for step, (gone, _, _) in enumerate(merges(junction, count - junction.keep)):
        late[gone] = step
    return late


def refit(junction: Junction, kept: Tensor) -> None:
    """Give each unit what read those that went into it."""
    for gone, into, factor in merges(junction, int(junction.alive.sum() - kept.sum())):
        junction.outgoing[into] += factor * junction.outgoing[gone]


CRITERION = criterion(choose, refit)
