"""MNIST-1D from its authors' generator (Greydanus 2020): ten templates, shifted, sheared, with noise; length 40."""

import random
from functools import partial
from typing import Any

import numpy as np

from harness.data.base import split_arrays
from harness.data.source import generated

CANONICAL: dict[str, Any] = {"num_samples": 5000}
# Harder: noise at which the 1-D ResNet-20's tickets need rewinding; more test samples, so that a difference of a few
# tenths of a point is not lost in test noise.
HARD: dict[str, Any] = {"num_samples": 25000, "corr_noise_scale": 0.35, "iid_noise_scale": 0.05}
SIZES = {
    "mnist1d": {"train": 3600, "validation": 400, "test": 1000},
    "mnist1d-hard": {"train": 12000, "validation": 1000, "test": 12000},
}


def arrays(name: str) -> dict[str, np.ndarray]:
    """Train, validation and test arrays [N, 1, 40] of the canonical or the harder variant.

    The canonical test set is the package's own: its last 1,000 samples.
    """
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    for key, value in (CANONICAL if name == "mnist1d" else HARD).items():
        setattr(arguments, key, value)
    state = np.random.get_state(), random.getstate()
    try:  # the generator seeds and uses the global generators
        samples = make_dataset(arguments)
    finally:
        np.random.set_state(state[0])
        random.setstate(state[1])
    x = np.concatenate([samples["x"], samples["x_test"]])[:, None, :]
    y = np.concatenate([samples["y"], samples["y_test"]])
    return split_arrays(x, y, SIZES[name], np.arange(len(y)))


CHECKSUMS = {
    "mnist1d": "55e7a9b8bf3ca462ecd898e4a0a97e45b5ba01dba76a8b4e02cc92b2ea43e996",
    "mnist1d-hard": "891f5e587403bc71e4b50d400c77d375a24c251e2be45284285c2b2227fec540",
}
SOURCES = {name: generated((1, 40), SIZES[name], partial(arrays, name), CHECKSUMS[name]) for name in SIZES}
