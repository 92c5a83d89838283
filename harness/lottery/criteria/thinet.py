"""ThiNet: the units whose sum to the next layer's outputs is missed least (Luo, Wu and Lin, arXiv 1707.06342).

Units are removed one by one, each time the one with which the removed units' part of the next layer's outputs has the
smallest mean square; then each kept unit is scaled for the least square of what is missing. The paper samples outputs
and positions; here all of the minibatches' count.
"""

import torch
from torch import Tensor

from harness.lottery.layerwise import Junction, criterion


def parts(junction: Junction) -> Tensor:
    """Mean products of the units' parts of the next layer's outputs, summed over outputs, [units, units]."""
    own, _ = junction.products()
    units, taps, _ = junction.outgoing.shape
    weight = junction.outgoing.flatten(0, 1)
    return (own * (weight @ weight.T)).view(units, taps, units, taps).sum((1, 3))


def removals(gram: Tensor, alive: Tensor) -> Tensor:
    """How late each unit goes, from 1 on, [units]; 0 for those that are not alive. `gram` as `parts`."""
    late = torch.zeros(len(gram), dtype=torch.float64)
    left, together = alive.clone(), torch.zeros_like(gram[0])
    for step in range(1, int(alive.sum()) + 1):
        more = torch.where(left, 2 * together + gram.diagonal(), torch.inf)
        unit = int(more.argmin())
        together = together + gram[unit]
        left[unit] = False
        late[unit] = step
    return late


def scales(gram: Tensor, kept: Tensor) -> Tensor:
    """The factors of the kept units that bring their sum nearest to that of all, [units]; 1 for the others."""
    result = torch.ones_like(gram[0])
    result[kept] = torch.linalg.pinv(gram[kept][:, kept], rtol=1e-10, hermitian=True) @ gram[kept].sum(1)
    return result


def choose(junction: Junction) -> Tensor:
    """How late each unit goes, [units]."""
    return removals(parts(junction).cpu(), junction.alive)


def refit(junction: Junction, kept: Tensor) -> None:
    """Scale what reads the kept units."""
    weight = junction.outgoing
    weight *= scales(parts(junction).cpu(), kept).to(weight)[:, None, None]


CRITERION = criterion(choose, refit)
