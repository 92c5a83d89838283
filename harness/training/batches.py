"""Minibatches of a stack: the data set in memory, one named data order per replicate.

A batch depends only on the data order and the step: a run continued from a snapshot sees the batches of the
uninterrupted run.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.base.seeds import EPOCH, numpy_generator
from harness.networks.fused import Samples, Selected

PAD = 4  # pixels of zero padding around an image before a crop of the original size (LTH)


class Batches:
    """Batch `step` of each replicate, sampled without replacement within an epoch (STAB section 3).

    An epoch has floor(samples / batch_size) steps; the order and the augmentation are drawn anew for each.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, orders: list[tuple[str | int, ...]], augmentation: str):
        if batch_size > len(y):
            raise ValueError(f"batch_size {batch_size} is larger than the {len(y)} training samples")
        self.x, self.y, self.batch_size, self.orders, self.augmentation = x, y, batch_size, orders, augmentation
        self.steps_per_epoch = len(y) // batch_size
        self._epoch = -1
        self.order = torch.empty(0)
        self.flip = self.shift = torch.empty(0)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """x [R, batch, C, *S] and y [R, batch] of a training step."""
        x, y = self.selected(step)
        return (x.tensor() if isinstance(x, Selected) else x), y

    def selected(self, step: int) -> tuple[Samples, Tensor]:
        """The same, with samples that need no augmentation left where they lie."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self.plan(epoch)
        samples = slice(position * self.batch_size, (position + 1) * self.batch_size)
        index = self.order[:, samples]
        chosen, y = Selected(self.x, index), self.y[index]
        if self.augmentation != "flip_crop":
            return chosen, y
        x = chosen.tensor().flatten(0, 1)
        x = flip_and_crop(x, self.flip[:, samples].flatten(), self.shift[:, samples].flatten(0, 1))
        return x.unflatten(0, tuple(index.shape)), y

    def plan(self, epoch: int) -> None:
        """Draw an epoch's order [R, N], flips [R, N] and shifts [R, N, 2] for every replicate."""
        count = len(self.y)
        orders, flips, shifts = [], [], []
        for name in self.orders:
            generator = numpy_generator(*name, EPOCH, epoch)
            orders.append(generator.permutation(count))
            if self.augmentation == "flip_crop":
                flips.append(generator.random(count) < 0.5)
                shifts.append(generator.integers(0, 2 * PAD + 1, (count, 2)))
        device = self.x.device
        self.order = torch.from_numpy(np.stack(orders)).to(device)
        if flips:
            self.flip = torch.from_numpy(np.stack(flips)).to(device)
            self.shift = torch.from_numpy(np.stack(shifts)).to(device)
        self._epoch = epoch


def flip_and_crop(x: Tensor, flip: Tensor, shift: Tensor) -> Tensor:
    """Mirror images [N, C, H, W] where flip [N] says so, pad by PAD zeros, cut H x W at shift [N, 2] (row, column)."""
    height, width = x.shape[-2:]
    mirrored = torch.where(flip[:, None, None, None], x.flip(-1), x)
    padded = F.pad(mirrored, (PAD, PAD, PAD, PAD))
    rows = shift[:, 0, None] + torch.arange(height, device=x.device)
    columns = shift[:, 1, None] + torch.arange(width, device=x.device)
    sample = torch.arange(len(x), device=x.device)
    return padded[sample[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
