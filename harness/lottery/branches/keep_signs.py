"""keep_signs: IMP's mask on weights of the snapshot's signs, their magnitudes drawn anew.

Frankle, Schwab and Morcos (2020): is a ticket at step k more than its signs? The magnitudes are those of
`random_reinit`, so that the two differ in signs alone.
"""

from dataclasses import replace

from harness.base.seeds import REINITIALISATION
from harness.lottery.branch import Branch, Origin
from harness.lottery.masks import Masks
from harness.networks import initialise
from harness.training.state import State, read_network


def start(origin: Origin) -> tuple[State, Masks]:
    """The snapshot with new magnitudes of its prunable weights, and IMP's mask. Biases and BatchNorm stay."""
    snapshots = origin.snapshots().rewound()
    initialise(origin.network, origin.seeds(REINITIALISATION))
    drawn = read_network(origin.network, origin.k).weights
    signed = {name: drawn[name].abs() * snapshots.weights[name].sign() for name in origin.prunable}
    return replace(snapshots, weights={**snapshots.weights, **signed}), origin.stored_masks()


BRANCH = Branch("signs kept", start, source="mask", mask="same", weights="signs")
