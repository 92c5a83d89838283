"""Which reading of LeNet's recipe gives the dense accuracy that "Linear Mode Connectivity" prints, 98.3 +- 0.1%.

`python -m benchmarks.lenet_dense DATA` takes the prepared data (a run's data/mnist-0-to-1.json) and prints the test
accuracy of four dense networks of each candidate after the paper's 24,000 steps. The paper does not say how pixels are
scaled, nor whether the 5,000 validation pictures are trained on.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.lenet_distances import RECIPE, standardised
from harness import data
from harness.networks import build, initialise
from harness.training.batches import Batches
from harness.training.loop import evaluate, train, use_threads
from harness.training.state import read_network

STEPS, REPLICATES = 24_000, 4


def accuracies(x: Tensor, y: Tensor, test: tuple[Tensor, Tensor]) -> list[float]:
    """Test accuracy in percent of each network, trained on x [N, *sample] and y [N]."""
    network = build("lenet-300-100", REPLICATES, tuple(x.shape[1:]), 10)
    initialise(network, [("lenet dense", replicate) for replicate in range(REPLICATES)])
    batches = Batches(x, y, RECIPE.batch_size, [("lenet dense", r, "order") for r in range(REPLICATES)], "none")
    train(network, RECIPE.model_copy(update={"steps": STEPS}), batches, read_network(network, 0))
    return evaluate(network, *test)[0].tolist()


def main() -> None:
    use_threads(1)
    sets = data.load(Path(sys.argv[1]))
    for everything in (False, True):
        splits = ("train", "validation") if everything else ("train",)
        x, y = (torch.cat([part[split] for split in splits]) for part in (sets.x, sets.y))
        for scale in (lambda x: x, standardised):
            measured = accuracies(scale(x), y, (scale(sets.x["test"]), sets.y["test"]))
            words = "standardised" if scale is standardised else "pixels from 0 to 1"
            print(f"{len(y):,} pictures, {words}: " + ", ".join(f"{value:.2f}" for value in measured), flush=True)


if __name__ == "__main__":
    main()
