"""Error along the straight line between two networks (LMC section 2; the paper's 30 points)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.networks.layers import BatchNorm, Stack
from harness.training.loop import evaluate
from harness.training.state import State, write_network

# BatchNorm's statistics at a point of the line: interpolated like the weights, or re-estimated from samples
BATCH_NORM = ("averaged", "re-estimated")


@dataclass(frozen=True)
class Line:
    """Error in percent along the line: `error[batch_norm][split]` is [points, R]; `alphas` is [points]."""

    alphas: np.ndarray
    error: dict[str, dict[str, np.ndarray]]

    def instability(self, batch_norm: str, split: str) -> np.ndarray:
        """Highest error on the line minus the mean of the end points' errors, [R], in percentage points."""
        return barrier(self.error[batch_norm][split])


def barrier(error: np.ndarray) -> np.ndarray:
    """sup over the line minus the end points' mean, for errors [points, ...]; the first and last are the end points."""
    return error.max(0) - (error[0] + error[-1]) / 2


def point(a: State, b: State, alpha: float) -> State:
    """(1 - alpha) a + alpha b, weights and buffers; alpha 0 and 1 give the end points themselves."""
    if alpha in (0.0, 1.0):
        return b if alpha else a

    def mix(u: dict[str, Tensor], v: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.lerp(u[name], v[name], alpha) for name in u}

    return State(a.step, mix(a.weights, b.weights), mix(a.buffers, b.buffers))


@torch.no_grad()
def reestimate_batch_norm(network: Stack, x: Tensor, batch_size: int = 496) -> None:
    """Replace BatchNorm's running statistics by their average over the batches of x [N, C, *S].

    The default suits the kernels, which need a multiple of 16 samples.
    """
    batch_size = min(batch_size, len(x))
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    replicates = next(network.parameters()).shape[0]
    network.train()
    for count, start in enumerate(range(0, len(x) - batch_size + 1, batch_size), start=1):
        for norm in norms:
            norm.momentum = 1.0 / count
        part = x[start : start + batch_size].to(
            next(network.parameters()).device
        )  # ImageNet's samples are still on disk
        network(part.expand(replicates, -1, *x.shape[1:]))
    for norm in norms:
        norm.momentum = BatchNorm.MOMENTUM


def line(network: Stack, a: State, b: State, samples: Mapping[str, tuple[Any, Tensor]], **options: Any) -> Line:
    """Errors at `points` (default 30) evenly spaced points from a (alpha 0) to b (alpha 1), both included.

    `samples` maps "train" and "test" to (x, y). Statistics are re-estimated on the training samples. A network without
    BatchNorm has no statistics; the same errors are reported under both names.
    """
    alphas = np.linspace(0.0, 1.0, options.get("points", 30))
    has_norm = any(isinstance(module, BatchNorm) for module in network.modules())
    error: dict[str, dict[str, list[np.ndarray]]] = {way: {split: [] for split in samples} for way in BATCH_NORM}
    for alpha in alphas:
        write_network(network, point(a, b, float(alpha)))
        for way in BATCH_NORM if has_norm else BATCH_NORM[:1]:
            if way == "re-estimated":
                reestimate_batch_norm(network, samples["train"][0])
            for split, (x, y) in samples.items():
                error[way][split].append(100.0 - evaluate(network, x, y)[0].numpy())
    if not has_norm:
        error["re-estimated"] = error["averaged"]
    return Line(alphas, {way: {split: np.stack(rows) for split, rows in parts.items()} for way, parts in error.items()})
