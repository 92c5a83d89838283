"""distilled: IMP's ticket taught by the dense network it was cut from (Hinton, Vinyals and Dean, arXiv 1503.02531).

The loss is SHARE * T^2 * KL(teacher || student), both softened by the temperature T, and the cross-entropy for the
rest. The ticket and its start are IMP's, so that the two differ in the loss alone. T lies within the 2.5 to 4 that the
paper found best for its smallest student; the share is common in later practice.
"""

from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.lottery.branch import Branch, Origin, Span
from harness.lottery.masks import Masks
from harness.training.objective import Objective, Pass
from harness.training.state import State, write_network

TEMPERATURE, SHARE = 4.0, 0.9


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot's weights, and IMP's mask."""
    return origin.snapshots().rewound(), origin.stored_masks()


def objective(origin: Origin, span: Span) -> Objective:
    """The loss of every step. The teacher uses BatchNorm's stored statistics."""
    teacher = deepcopy(origin.network).eval()
    write_network(teacher, origin.dense())
    taught_by = teacher.replicates()

    def loss(batch: Pass) -> Tensor:
        with torch.no_grad():
            taught = teacher.heads(taught_by[batch.place], batch.x)[0].float() / TEMPERATURE
        own = batch.heads()[0].float()
        soft = F.kl_div(
            F.log_softmax(own / TEMPERATURE, 1), F.log_softmax(taught, 1), reduction="batchmean", log_target=True
        )
        return SHARE * TEMPERATURE**2 * soft + (1 - SHARE) * F.cross_entropy(own, batch.y)

    return Objective(loss, span.steps)


BRANCH = Branch(
    "distilled IMP", start, source="mask", mask="same", weights="snapshot", objective=objective, reads_dense=True
)
