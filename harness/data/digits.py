"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8, shipped in the wheel (UCI optical recognition set)."""

import numpy as np

from harness.data.base import split_arrays
from harness.seeds import numpy_generator

SIZES = {"train": 1197, "validation": 60, "test": 540}


def arrays() -> dict[str, np.ndarray]:
    """Train, validation and test arrays [N, 1, 8, 8], standardised by the training split's mean and deviation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = numpy_generator("digits", "split").permutation(len(digits.target))
    x = digits.images[:, None].astype(np.float64)
    train = x[order[: SIZES["train"]]]
    return split_arrays((x - train.mean()) / train.std(), digits.target, SIZES, order)
