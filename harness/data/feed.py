"""Training batches of images on disk: the standard random resized crop and flip, read ahead by threads.

The counterpart of `harness.training.batches.Batches` for arrays in memory. A batch depends on (data order, step) alone.
"""

import math
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from harness.base.seeds import CROPS, EPOCH, numpy_generator
from harness.data.images import Images, pixel_buffer, wait
from harness.data.normalise import normalised

AHEAD = 2  # batches that are read during a training step
SCALE, RATIO = (0.1, 1.0), (0.8, 1.25)  # a crop's share of the area, its width to height (open_lth)
ATTEMPTS = 10  # to draw a box that fits; then the largest box in the middle is used (torchvision)


@dataclass(frozen=True)
class _Reading:
    index: Tensor  # [R, batch]
    pixels: Tensor  # [R * batch, 3, crop, crop] uint8
    tasks: list["Future[None]"]


class Feed:
    """Batch `step` of each replicate, sampled without replacement within an epoch of floor(samples / batch) steps."""

    def __init__(
        self,
        x: Images,
        y: Tensor,
        batch_size: int,
        orders: list[tuple[str | int, ...]],
        device: str | torch.device = "cpu",
    ):
        if batch_size > len(y):
            raise ValueError(f"batch_size {batch_size} is larger than the {len(y)} training samples")
        self.x, self.y, self.batch_size, self.orders, self.device = x, y, batch_size, orders, torch.device(device)
        self.steps_per_epoch = len(y) // batch_size
        self._reading: dict[int, _Reading] = {}
        self._permutation = lru_cache(2 * len(orders))(self._draw_permutation)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """x [R, batch, 3, crop, crop] float32 and y [R, batch] of a training step, normalised on the device."""
        pixels, index = self.pixels(step)
        x = normalised(pixels.to(self.device, non_blocking=True), self.x.stored.mean, self.x.stored.std)
        return x.unflatten(0, tuple(index.shape)), self.y[index].to(self.device, non_blocking=True)

    def pixels(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels [R * batch, 3, crop, crop] uint8 of a training step, in main memory, and their samples [R, batch].

        Starts to read the AHEAD batches after it.
        """
        wanted = range(step, step + AHEAD + 1)
        self._reading = {at: reading for at, reading in self._reading.items() if at in wanted}
        for at in wanted:
            if at not in self._reading:
                self._reading[at] = self._start(at)
        now = self._reading.pop(step)
        wait(now.tasks)
        return now.pixels, now.index

    def _start(self, step: int) -> _Reading:
        """Draw a step's samples, boxes and flips, and start to read them."""
        epoch, position = divmod(step, self.steps_per_epoch)
        here = slice(position * self.batch_size, (position + 1) * self.batch_size)
        rows = [self._permutation(order, epoch)[here] for order in self.orders]
        images = self.x[np.concatenate(rows)]
        heights, widths = (images.stored.index[side][images.rows].astype(np.int64) for side in ("height", "width"))
        boxes, flips = [], []
        for at, name in enumerate(self.orders):
            part = slice(at * self.batch_size, (at + 1) * self.batch_size)
            generator = numpy_generator(*name, CROPS, step)
            boxes.append(draw_boxes(generator, heights[part], widths[part]))
            flips.append(generator.random(self.batch_size) < 0.5)
        out = pixel_buffer(len(images), images.stored.crop, pinned=self.device.type == "cuda")
        tasks = images.read_crops(out, np.concatenate(boxes), np.concatenate(flips))
        return _Reading(torch.from_numpy(np.stack(rows)), out, tasks)

    def _draw_permutation(self, order: tuple[str | int, ...], epoch: int) -> np.ndarray:
        return numpy_generator(*order, EPOCH, epoch).permutation(len(self.y))


def draw_boxes(generator: np.random.Generator, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Crops [N, 4] (top, left, height, width) of images of heights [N] and widths [N], all int64.

    torchvision's RandomResizedCrop: the first of ATTEMPTS boxes, uniform in area and in the logarithm of the ratio,
    that fits; else the largest box in the middle whose ratio is allowed.
    """
    count = len(heights)
    area = (heights * widths)[:, None] * generator.uniform(*SCALE, (count, ATTEMPTS))
    ratio = np.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1]), (count, ATTEMPTS)))
    width, height = np.rint(np.sqrt(area * ratio)).astype(np.int64), np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (width > 0) & (height > 0) & (width <= widths[:, None]) & (height <= heights[:, None])
    first = fits.argmax(1)
    width, height = width[np.arange(count), first], height[np.arange(count), first]
    place = generator.random((count, 2))
    top = (place[:, 0] * (heights - height + 1)).astype(np.int64)
    left = (place[:, 1] * (widths - width + 1)).astype(np.int64)
    none = ~fits.any(1)
    width = np.where(none, np.minimum(widths, np.rint(heights * RATIO[1]).astype(np.int64)), width)
    height = np.where(none, np.minimum(heights, np.rint(widths / RATIO[0]).astype(np.int64)), height)
    top, left = np.where(none, (heights - height) // 2, top), np.where(none, (widths - width) // 2, left)
    return np.stack([top, left, height, width], 1)
