"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8, shipped in the wheel (UCI optical recognition set)."""

import numpy as np

from harness.base.seeds import SPLIT, numpy_generator
from harness.data.base import split_arrays
from harness.data.source import generated

SIZES = {"train": 1197, "validation": 60, "test": 540}


def arrays() -> dict[str, np.ndarray]:
    """Train, validation and test arrays [N, 1, 8, 8], standardised by the training split's mean and deviation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = numpy_generator("digits", SPLIT).permutation(len(digits.target))
    x = digits.images[:, None].astype(np.float64)
    train = x[order[: SIZES["train"]]]
    return split_arrays((x - train.mean()) / train.std(), digits.target, SIZES, order)


SOURCES = {
    "digits": generated((1, 8, 8), SIZES, arrays, "67e7cf849a2d55113a73b44209de6a215661ec6f2ace4f0ede5dbb44e4bc5bdc")
}
