"""Distance and angle between the final weights of two trainings (STAB section 3, Appendix B)."""

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def masked_vectors(weights: Weights, masks: Weights) -> Tensor:
    """m * W over the masked tensors, [R, total], in double precision."""
    return torch.cat([(weights[name].double() * masks[name].double()).flatten(1) for name in masks], 1)


def distance_and_angle(a: Weights, b: Weights, masks: Weights) -> tuple[Tensor, Tensor]:
    """L2 distance [R] and angle in degrees [R] between m * W and m * W'.

    The angle of a zero vector is NaN. Both are taken over the tensors in `masks`: prunable weights only.
    """
    u, v = masked_vectors(a, masks), masked_vectors(b, masks)
    distance = (u - v).norm(dim=1)
    length_u, length_v = u.norm(dim=1, keepdim=True), v.norm(dim=1, keepdim=True)
    unit_u, unit_v = u / length_u, v / length_v
    # atan2 of the half angle's legs, because acos loses all digits near 0 and 180 degrees
    angle = 2 * torch.atan2((unit_u - unit_v).norm(dim=1), (unit_u + unit_v).norm(dim=1))
    return distance, torch.rad2deg(angle)
