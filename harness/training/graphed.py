"""A whole training step as one recorded graph, which a GPU replays for every step without waiting for the host.

A step by torch is some two hundred small operations for each replicate, and a GPU computes most of them faster than
the host can ask for them. Recorded once, the step takes one call. No GPU has measured it yet, so it is off:
HARNESS_GRAPH=1 turns it on, and `benchmarks/gpu_day.py` compares both.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeGuard

import torch
from torch import Tensor

from harness.base.variables import variables
from harness.data.feed import Feed
from harness.networks.layers import Stack
from harness.paper.models import Recipe
from harness.training.batches import Batches, flip_and_crop
from harness.training.objective import Pass
from harness.training.recipe import learning_rate
from harness.training.step import in_training, one_loss
from harness.training.updates import KINDS, Updater

BRANCHES = 4  # of the graph, each with its share of the replicates: the operations of one seldom fill a GPU
EAGER_STEPS = 3  # taken before the graph is recorded; libraries are loaded in the first ones


def usable(batches: Batches | Feed, recipe: Recipe) -> TypeGuard[Batches]:
    """Whether HARNESS_GRAPH is set and a training can be recorded: on a GPU, from data that lie there."""
    return variables().graph and isinstance(batches, Batches) and batches.x.is_cuda and recipe.optimizer in KINDS


class Steps:
    """The steps of a stack's training with all that changes between them on the device.

    That is the step's number, the learning rates of all steps, and the running epoch's order [R, N], flips [R, N] and
    shifts [R, N, 2], each in a tensor that stays where it is. Every replicate's operations are those of
    `harness.training.step`, so a training has the same bits either way. On a CPU they run without a graph.
    """

    def __init__(self, network: Stack, updater: Updater, batches: Batches, first: int):
        self.network, self.updater, self.batches = network, updater, batches
        device = batches.x.device
        self.replicates = in_training(network, updater)
        recipe = updater.recipe
        rates = torch.tensor([learning_rate(recipe, step) for step in range(recipe.steps)])
        self._rates: list[float] = rates.tolist()
        self.rates = rates.to(device)
        self.step = torch.tensor([first], device=device)
        self.within = torch.arange(recipe.batch_size, device=device)
        self.losses = torch.zeros(len(self.replicates), device=device)
        self.drawn: list[Tensor] = []  # order, flips, shifts
        self.epoch, self.taken = -1, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        streams = 1 + min(BRANCHES, len(self.replicates))
        all_streams = [torch.cuda.Stream(device) for _ in range(streams)] if device.type == "cuda" else [None, None]
        self.stream: torch.cuda.Stream | None = all_streams[0]
        self.branches = all_streams[1:]

    def rate(self, step: int) -> float:
        """The learning rate of a step, as the device has it."""
        return self._rates[step]

    def take(self, step: int) -> Tensor:
        """Take a step, which must follow the last one. Returns the mean cross-entropy [R] before it."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.batches.x.device))
        with self._on(self.stream):
            self._draw(step // self.batches.steps_per_epoch)
            self.updater.steps += 1
            if self.stream is not None and self.graph is None and self.taken == EAGER_STEPS:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph, stream=self.stream):
                    self._step()
            if self.graph is None:
                self._step()
            else:
                self.graph.replay()
            self.taken += 1
        if self.stream is not None:
            torch.cuda.current_stream(self.batches.x.device).wait_stream(self.stream)
        return self.losses

    def _draw(self, epoch: int) -> None:
        """Copy an epoch's order, flips and shifts to where the graph reads them."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        self.batches.plan(epoch)
        now = [self.batches.order, self.batches.flip, self.batches.shift]
        self.drawn = self.drawn or [torch.empty_like(values) for values in now]
        for place, values in zip(self.drawn, now, strict=True):
            place.copy_(values)

    def _step(self) -> None:
        position = self.step % self.batches.steps_per_epoch
        samples = position * len(self.within) + self.within
        for place, branch in self._forked():
            with self._on(branch):
                batch = Pass(self.network, self.replicates[place], *self._batch(place, samples), 0, place)
                self.losses[place].copy_(one_loss(batch, self.updater.recipe))
        self._join()
        self.updater.step_by_torch(self.rates.index_select(0, self.step)[0])
        self.step += 1

    def _batch(self, place: int, samples: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, *sample] and y [N] of a replicate, from places in its order."""
        order, *augmentation = (values[place] for values in self.drawn if values.numel())
        index = order.index_select(0, samples)
        x, y = self.batches.x.index_select(0, index), self.batches.y.index_select(0, index)
        if augmentation:
            x = flip_and_crop(x, *(values.index_select(0, samples) for values in augmentation))
        return x, y

    def _forked(self) -> list[tuple[int, "torch.cuda.Stream | None"]]:
        """Each replicate's place with its branch, all of which wait for what was done before."""
        for branch in self.branches:
            if branch is not None:
                branch.wait_stream(torch.cuda.current_stream(self.batches.x.device))
        return [(place, self.branches[place % len(self.branches)]) for place in range(len(self.replicates))]

    def _join(self) -> None:
        for branch in self.branches:
            if branch is not None:
                torch.cuda.current_stream(self.batches.x.device).wait_stream(branch)

    def _on(self, stream: "torch.cuda.Stream | None") -> AbstractContextManager[object]:
        return nullcontext() if stream is None else torch.cuda.stream(stream)
