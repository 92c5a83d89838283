"""Han et al.: |w| over the standard deviation of its layer's surviving weights.

"Learning both Weights and Connections for Efficient Neural Networks" (arXiv 1506.02626) drops |w| below q times the
standard deviation of the layer. Here q is that of the level's exact count, the same in every layer.
"""

import torch
from torch import Tensor

from harness.lottery.branch import Criterion, Subject

SMALLEST = 1e-30  # in place of no deviation: a layer of equal weights is kept whole


def score(subject: Subject) -> dict[str, Tensor]:
    """|w| over the deviation of its layer, [R, ...] by name, in double precision."""
    return {
        name: torch.stack([_scaled(*own) for own in zip(weight, subject.masks[name], strict=True)])
        for name, weight in subject.weights.items()
    }


def _scaled(weight: Tensor, mask: Tensor) -> Tensor:
    own = weight.double()
    survivors = own[mask != 0]
    deviation = survivors.std(correction=0) if len(survivors) else torch.zeros(())
    return own.abs() / deviation.clamp_min(SMALLEST)


CRITERION = Criterion(score)
