"""The papers of which only the abstract was read: worlds in which it is right, and in which a method is wrong.

Accuracies are drawn around what a world has, a tenth of a point wide, for every network that the mini scale trains.
"""

import numpy as np
import pandas as pd
import pytest

from harness.base.paths import checkout
from harness.claims.judge import judge
from harness.paper import load_spec
from harness.plan.runs import Run, all_runs
from tests.claims.tables import network, table

#: mean accuracy by experiment, branch and, where it matters, level
AT_INITIALISATION = {
    ("resnet20-standard", "dense"): 89.2,
    ("resnet20-standard", "imp"): 89.0,
    ("resnet20-standard", "random_prune"): 87.0,
    ("resnet20-standard", "random_reinit"): 87.5,
    ("resnet20-standard", "snip"): 86.0,
    ("resnet20-standard", "snip_shuffled"): 86.0,
    ("resnet20-standard", "snip_reinit"): 86.1,
    ("lenet", "dense"): 98.2,
    ("lenet", "imp"): 98.0,
    ("lenet", "random_prune"): 96.5,
    ("lenet", "random_reinit"): 97.0,
    ("lenet", "snip"): 97.0,
    ("lenet", "snip_shuffled"): 97.0,
    ("lenet", "snip_reinit"): 97.1,
}
AFTER_PRUNING = {
    ("resnet20-standard", "dense"): 89.2,
    ("resnet20-standard", "imp"): 88.5,
    ("resnet20-standard", "lr_rewind"): 88.6,
    ("resnet20-standard", "fine_tune"): 86.5,
}
TICKETS = {
    ("lenet", "dense"): 98.0,
    ("lenet", "imp"): 98.4,
    ("lenet", "random_reinit"): 97.2,
    ("lenet", "random_prune"): 96.8,
}
EVOLVING = {
    ("lenet", "dense"): 98.0,
    ("lenet", "imp"): 97.0,
    ("lenet", "set"): 97.0,
    ("lenet", "erdos_renyi"): 95.0,
}
RETHOUGHT = {
    ("resnet20-standard", "dense"): 89.2,
    ("resnet20-standard", "imp"): 87.6,
    ("resnet20-standard", "random_reinit"): 87.4,
    ("resnet20-standard", "fine_tune"): 88.8,
    ("resnet20-filters", "dense"): 89.2,
    ("resnet20-filters", "imp"): 87.5,
    ("resnet20-filters", "fine_tune"): 87.0,
    ("resnet20-filters", "scratch_b"): 87.9,
    ("resnet20-low", "dense"): 87.4,
    ("resnet20-low", "imp"): 87.0,
    ("resnet20-low", "random_reinit"): 85.0,
}
BY_DENSITY = {
    ("lenet", "dense"): 98.2,
    **{("lenet", "imp", level): 97.0 for level in range(1, 6)},
    **{("lenet", "gradual", level): mean for level, mean in enumerate((98.2, 98.1, 98.0, 97.2, 96.0), 1)},
    **{("lenet", "variational", level): mean for level, mean in enumerate((98.1, 98.2, 97.9, 97.5, 96.9), 1)},
}
PRUNED_TO_NOTHING = {("lenet", "variational", level): 94.0 for level in range(1, 6)}  # its price was not weighed in
MEASURED_ON_PRUNED_WEIGHTS = {("lenet", "gradual", level): 97.0 - level for level in range(1, 6)}
BEFORE_TRAINING = {
    ("lenet", "dense"): 98.2,
    ("lenet", "imp"): 97.0,
    ("lenet", "snip", 1): 97.6,
    ("lenet", "snip", 2): 96.0,
    ("lenet", "snip_reinit"): 96.5,
    ("lenet-random", "dense"): 98.2,
    ("lenet-random", "imp", 1): 93.0,
    ("lenet-random", "imp", 2): 88.0,
}
LEAST_SENSITIVE_KEPT = {("lenet", "snip", 1): 80.0, ("lenet", "snip", 2): 60.0}
PRUNED_AT_RANDOM = {("lenet", "snip", 1): 93.0, ("lenet", "snip", 2): 88.0}
SCORED_AFTER_TRAINING = {("lenet", "snip", 2): 98.4}
SCRATCH_B_AS_SHORT_AS_E = {("resnet20-filters", "scratch_b"): 86.6}
REINIT_KEEPS_TRAINED_WEIGHTS = {(name, "random_reinit"): 88.9 for name in ("resnet20-standard", "resnet20-low")}
LOW_RATE_FOR_BOTH = {("resnet20-standard", "imp"): 88.9}
NOTHING_MOVES = {("lenet", "set"): 94.8}
MOVES_A_LITTLE = {("lenet", "set"): 95.8}  # above the static network, and nearer to it than to the dense one
SHUFFLED_OVER_ALL_LAYERS = {("resnet20-standard", "snip_shuffled"): 80.0, ("lenet", "snip_shuffled"): 92.0}
REINIT_KEEPS_THE_WEIGHTS = {("resnet20-standard", "random_reinit"): 88.9, ("lenet", "random_reinit"): 98.1}
PRUNED_AFTER_TRAINING = {("resnet20-standard", "snip"): 89.2, ("lenet", "snip"): 98.2}
LAST_RATE_FOR_BOTH = {("resnet20-standard", "lr_rewind"): 86.4}
SCHEDULE_FOR_BOTH = {("resnet20-standard", "fine_tune"): 88.8}
TICKETS_OF_ANOTHER_DRAW = {("lenet", "imp"): 97.1}


def mean(world: dict, run: Run) -> float:
    """What a world has for a run, at its level or at all of them."""
    place = (run.experiment, run.branch)
    return float(world.get((*place, run.level), world.get(place)))


def verdicts(paper: str, world: dict) -> dict[str, str]:
    """The verdicts of the mini scale, by claim, of those that it judges."""
    spec, draw = load_spec(checkout(), paper, "mini"), np.random.default_rng(0)
    rows = [
        network(
            run.branch,
            run.replicate,
            run.experiment,
            run.k,
            level=run.level,
            data_order=run.data_order,
            density=spec.scale.experiments[run.experiment].pruning.density(run.level),
            test_accuracy=mean(world, run) + 0.1 * draw.standard_normal(),
        )
        for run in all_runs(spec)
    ]
    found: pd.DataFrame = table(*rows)
    judged = judge([claim for claim in spec.claims if "mini" in claim.scales], "mini", found, {})
    return {claim.id: claim.verdict for claim in judged}


@pytest.mark.parametrize(
    ("paper", "world", "wrong", "missed"),
    [
        ("missing-the-mark", AT_INITIALISATION, {}, ""),
        ("missing-the-mark", AT_INITIALISATION, SHUFFLED_OVER_ALL_LAYERS, "M1"),
        ("missing-the-mark", AT_INITIALISATION, REINIT_KEEPS_THE_WEIGHTS, "M2 M3"),
        # what SNIP then has to lose, it loses when its mask is shuffled or its weights are drawn anew
        ("missing-the-mark", AT_INITIALISATION, PRUNED_AFTER_TRAINING, "M1 M2 M4"),
        ("rewinding-and-fine-tuning", AFTER_PRUNING, {}, ""),
        ("rewinding-and-fine-tuning", AFTER_PRUNING, LAST_RATE_FOR_BOTH, "R2 R3"),
        ("rewinding-and-fine-tuning", AFTER_PRUNING, SCHEDULE_FOR_BOTH, "R1 R2 R3"),
        ("rethinking-pruning", RETHOUGHT, {}, ""),
        ("rethinking-pruning", RETHOUGHT, SCRATCH_B_AS_SHORT_AS_E, "V1"),
        ("rethinking-pruning", RETHOUGHT, REINIT_KEEPS_TRAINED_WEIGHTS, "V2 V3"),
        ("rethinking-pruning", RETHOUGHT, LOW_RATE_FOR_BOTH, "V3"),
        ("single-shot-pruning", BEFORE_TRAINING, {}, ""),
        ("single-shot-pruning", BEFORE_TRAINING, LEAST_SENSITIVE_KEPT, "N1 N2 N3"),
        ("single-shot-pruning", BEFORE_TRAINING, PRUNED_AT_RANDOM, "N1 N2 N3"),
        ("single-shot-pruning", BEFORE_TRAINING, SCORED_AFTER_TRAINING, "N2"),
        ("sparse-evolutionary-training", EVOLVING, {}, ""),
        ("sparse-evolutionary-training", EVOLVING, NOTHING_MOVES, "E1 E2"),
        ("sparse-evolutionary-training", EVOLVING, MOVES_A_LITTLE, "E2"),
        ("state-of-sparsity", BY_DENSITY, {}, ""),
        ("state-of-sparsity", BY_DENSITY, PRUNED_TO_NOTHING, "G1 G2"),
        ("state-of-sparsity", BY_DENSITY, MEASURED_ON_PRUNED_WEIGHTS, "G1"),
        ("the-lottery-ticket-hypothesis", TICKETS, {}, ""),
        ("the-lottery-ticket-hypothesis", TICKETS, TICKETS_OF_ANOTHER_DRAW, "L1 L2 L3"),
    ],
)
def test_a_right_world_is_seen_in_every_claim_and_a_wrong_variant_is_not(paper, world, wrong, missed):
    found = verdicts(paper, world | wrong)
    assert [name for name, verdict in found.items() if verdict != "supported"] == missed.split()
