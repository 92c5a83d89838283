"""Named seeds. Every random draw has a name, so adding a draw changes no other draw."""

import hashlib

import numpy as np
import torch

# purposes in the names of draws; the name of a training's draw begins with its experiment and replicate
INITIALISATION = "initialisation"
DATA_ORDER = "data order"  # then the number of the order
REINITIALISATION = "reinitialisation"  # then k and the level
RANDOM_PRUNE = "random prune"  # then k, the level and the layer
SNIP = "snip"  # the order in which SNIP sees minibatches
RANDOM_SCORE = "random score"  # then k and the level
REWIRING = "rewiring"  # then k, the level, the step and the layer
NOISE = "noise"  # of a stochastic forward pass; then k, the level, the step and the layer
CRITERION = "criterion"  # the order in which other criteria see minibatches
EPOCH, CROPS = "epoch", "crops"  # after a data order's name; then the epoch or the step
SPLIT, STORED_ORDER = "split", "order"  # after a data set's name


def seed(*name: str | int) -> int:
    """63-bit seed of a name such as ("lenet", 3, "initialisation"); stable across machines and versions."""
    text = "\x1f".join(str(part) for part in name)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(*name: str | int) -> torch.Generator:
    """CPU generator of a name. The numbers do not depend on the training device."""
    return torch.Generator().manual_seed(seed(*name))


def numpy_generator(*name: str | int) -> np.random.Generator:
    """NumPy generator (PCG64) of a name."""
    return np.random.Generator(np.random.PCG64(seed(*name)))
