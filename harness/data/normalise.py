"""From stored pixels to the inputs of a network. Training computes with this code."""

import numpy as np
import torch
from torch import Tensor

from harness.data.archives import Published


def normalisation(published: Published) -> dict[str, np.ndarray]:
    """mean and std [C] float32, stored with the arrays, under the same checksum."""
    return {"mean": np.array(published.mean, np.float32), "std": np.array(published.std, np.float32)}


def normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(pixel / 255 - mean) / std of uint8 [N, C, *S], float32 on the pixels' device; mean and std [C]."""
    shape = (-1, *(1,) * (pixels.dim() - 2))
    mean, std = (255 * part.to(pixels.device).reshape(shape) for part in (mean, std))
    return pixels.to(torch.float32).sub_(mean).div_(std)
