"""Which reading of LeNet's recipe gives the distances that the paper prints: candidates, tried.

`python -m benchmarks.lenet_distances DATA` takes the prepared data (a run's data/mnist-0-to-1.json) and prints, for one
replicate of each candidate, what Fig. 3 and Fig. 10 of the paper print at k = 0 and 10.7% density. The paper does not
say how pixels are scaled, how LeNet's layers share what is pruned, or how weights are drawn. The first three candidates
differ in the scale of pixels, the last two change another thing of the second.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from harness import data
from harness.base.seeds import DATA_ORDER
from harness.data.sets.mnist import MNIST
from harness.lottery.distance import distance_and_angle
from harness.lottery.masks import Masks, by_layer, dense_masks, keep_count, keep_largest, shuffled
from harness.networks import build, initialise, prunable_names
from harness.networks.layers import Stack
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.loop import evaluate, train, use_threads
from harness.training.state import State, read_network, write_network

LEVELS, FRACTION = 10, 0.2
RECIPE = Recipe(optimizer="adam", learning_rate=1.2e-3, batch_size=60, steps=50_000)
PUBLISHED = (98.3, 97.5, 20.7, 58.6, 48.1, 75.7, 22.7, 49.2, 53.1, 83.6)
COLUMNS = (
    "IMP, %",
    "random, %",
    *(f"{m} {c}, {b}" for m in ("L2", "°") for c in ("order", "pruning") for b in ("IMP", "random")),
)


@dataclass(frozen=True)
class Candidate:
    """A reading of the recipe: how pixels are scaled, how the surviving weights are ranked, how weights are drawn."""

    name: str
    scale: Callable[[Tensor], Tensor] = lambda x: x
    rank: Callable[[Masks, Masks], Masks] = lambda scores, masks: scores
    draw: Callable[[Stack], None] = lambda network: None
    steps: int = RECIPE.steps


def standardised(x: Tensor) -> Tensor:
    """Pixels of mean 0 and deviation 1 over the training set: open_lth, the authors' later code."""
    mean, std = MNIST.mean[0], MNIST.std[0]
    return (x - mean) / std


def unit_length(x: Tensor) -> Tensor:
    """Each picture of Euclidean length 1: the code that the authors published with LTH."""
    return x / x.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.dim() - 1))


def glorot_uniform(network: Stack) -> None:
    """Weights uniform within sqrt(6 / (inputs + outputs)), biases zero."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                bound = math.sqrt(6 / sum(parameter.shape[1:]))
                parameter.uniform_(-bound, bound, generator=torch.Generator().manual_seed(len(name)))
            else:
                parameter.zero_()


CANDIDATES = (
    Candidate("pixels from 0 to 1"),
    Candidate("standardised", scale=standardised),
    Candidate("pictures of length 1", scale=unit_length),
    Candidate("standardised, each layer loses 20%", scale=standardised, rank=by_layer),
    Candidate("standardised, weights drawn uniformly", scale=standardised, draw=glorot_uniform),
)


def measure(candidate: Candidate, sets: data.DataSet) -> list[float]:
    """The numbers of COLUMNS for one replicate."""
    x, test = candidate.scale(sets.x["train"]), candidate.scale(sets.x["test"])
    network = build("lenet-300-100", 1, sets.input_shape, sets.classes)
    initialise(network, [("distances", 0)])
    candidate.draw(network)
    start, names = read_network(network, 0), prunable_names(network)
    recipe = RECIPE.model_copy(update={"steps": candidate.steps})

    def trained(masks: Masks | None, order: int) -> State:
        batches = Batches(x, sets.y["train"], recipe.batch_size, [("distances", order, DATA_ORDER)], "none")
        weights = start.weights | {name: start.weights[name] * mask for name, mask in (masks or {}).items()}
        return train(network, recipe, batches, replace(start, weights=weights), masks).final

    def accuracy(state: State) -> float:
        write_network(network, state)
        return float(evaluate(network, test, sets.y["test"])[0])

    masks = dense_masks(start.weights, names)
    total = sum(mask.numel() for mask in masks.values())
    dense = final = trained(None, 0)
    for level in range(1, LEVELS + 1):
        scores = candidate.rank({name: final.weights[name].abs() for name in names}, masks)
        masks = keep_largest(scores, masks, keep_count(total, (1 - FRACTION) ** level))
        final = trained(masks, 0)
    found = {
        "IMP": (masks, final),
        "random": (random := shuffled(masks, [("distances", "shuffle")]), trained(random, 0)),
    }
    pairs = {
        (comparison, branch): distance_and_angle(own.weights, other.weights, mask)
        for branch, (mask, own) in found.items()
        for comparison, other in (("order", trained(mask, 1)), ("pruning", dense))
    }
    places = [(comparison, branch) for comparison in ("order", "pruning") for branch in found]
    measures = [float(pairs[place][measure]) for measure in (0, 1) for place in places]
    return [accuracy(own) for _, own in found.values()] + measures


def main() -> None:
    use_threads(1)
    sets = data.load(Path(sys.argv[1]))
    table = Table(title="LeNet on MNIST at k = 0, 10.7% left, one replicate", title_justify="left")
    for column in ("", *COLUMNS):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("published", *(f"{value:g}" for value in PUBLISHED))
    for candidate in CANDIDATES:
        table.add_row(candidate.name, *(f"{value:.1f}" for value in measure(candidate, sets)))
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
