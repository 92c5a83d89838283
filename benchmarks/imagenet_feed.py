"""Result: from the page cache, two 2.3 GHz Xeon cores (Sapphire Rapids) feed 3,560 training images per second and one
core 1,970. In the first epoch, which compares each image with its digest, these are 2,740 and 1,640. Two cores convert
470 images per second, one core 280. The goal is 2,500 with eight cores, 312 each. Python's own share, which threads
can't run in parallel, is 0.04 ms of the 0.51 ms per image.

Run: ``nice -n 19 python -m benchmarks.imagenet_feed [--images 2000] [--threads 1]`` from the root of the repository.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from harness.data.feed import Feed
from harness.data.images import Images, Stored, shard_path
from harness.data.normalise import normalisation
from harness.data.sets.imagenet import IMAGENET, convert_shard, shard_index
from harness.training.loop import use_threads

GOAL = 2_500 / 8  # images per second and core, if eight cores feed one GPU
EPOCHS = 3  # the best of them is shown, since other programs can only slow one down
DISTINCT = 64  # different pictures, each converted many times


def pictures() -> list[bytes]:
    """JPEGs of ImageNet's usual size: 500 x 375 pixels, about 110 KB."""
    rng, encoded = np.random.default_rng(0), []
    for _ in range(DISTINCT):
        coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        grain = rng.integers(-12, 13, (375, 500, 1))
        image, file = Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)), io.BytesIO()
        image.save(file, "JPEG", quality=92)
        encoded.append(file.getvalue())
    return encoded


class Clock:
    """Wall-clock and processor seconds of a block."""

    def __enter__(self) -> Clock:
        self.started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.processor = time.perf_counter() - self.started[0], time.process_time() - self.started[1]


def stored_images(folder: Path, count: int) -> tuple[Images, Clock]:
    """Converted images, and the time of their conversion."""
    encoded = pictures()
    path = shard_path(folder, "train", 0)
    with Clock() as clock:
        convert_shard(path, ((str(i), 0, encoded[i % DISTINCT]) for i in range(count)), IMAGENET.side)
    mean, std = (torch.from_numpy(part) for part in normalisation(IMAGENET).values())
    stored = Stored(folder, "train", IMAGENET.shape[-1], mean, std, shard_index(path, 0), "", np.zeros(count, bool), {})
    return Images(stored, np.arange(count)), clock


def measure(images: int, threads: int, batch: int) -> Table:
    """Images per second: converted, read for the first time, read again, and also normalised."""
    use_threads(threads)
    table = Table(title=f"{images} images, batches of {batch}, {threads} threads; goal: {GOAL:.0f} per core")
    for column in ("what", "images/s", "images/s per core", "cores busy"):
        table.add_column(column, justify="left" if column == "what" else "right")

    def row(what: str, count: int, clock: Clock) -> None:
        cores = clock.processor / clock.wall
        table.add_row(what, f"{count / clock.wall:,.0f}", f"{count / clock.processor:,.0f}", f"{cores:.2f}")

    with tempfile.TemporaryDirectory() as folder:
        x, clock = stored_images(Path(folder), images)
        row("conversion (JPEG 500 x 375)", images, clock)
        steps = images // batch
        feed = Feed(x, torch.zeros(images, dtype=torch.int64), batch, [("benchmark",)])
        for what, epochs in (("training, first epoch (compared with digests)", 1), ("training, later epochs", EPOCHS)):
            clocks = []
            for _ in range(epochs):
                with Clock() as clock:
                    for step in range(steps):
                        feed.pixels(step)
                clocks.append(clock)
            row(what, steps * batch, min(clocks, key=lambda clock: clock.processor))
        with Clock() as clock:
            for step in range(steps):
                feed.batch(step)
        row("the same, normalised on the CPU instead of a GPU", steps * batch, clock)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    Console(width=120).print(measure(options.images, options.threads, options.batch))
