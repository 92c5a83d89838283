"""How a stage's work is cut among the processes of one job. Results and records do not depend on it."""

import math
from dataclasses import dataclass
from functools import lru_cache

from harness.paper import Spec
from harness.plan.runs import Stage, pairs, stacks

#: A step of a stack costs as much as its networks and this share of one network more, so that few large parts are
#: preferred to many small ones. Measured in core time with AVX-512, dense networks' steps per second alone and in a
#: stack, they cost no more alone: LeNet on 784 inputs 819 and 710 (5 networks), on 64 inputs 2,728 and 2,690 (9), the
#: one-dimensional ResNet-20 575 and 546 (5). What a step costs besides weighs more for a sparse network.
PER_STACK = 0.1


@dataclass(frozen=True)
class Cut:
    """A stage's stacks cut into parts that several processes train at once.

    `parts`: the replicates of each part, the same for every stack. `workers`: the processes that can be busy at once.
    `rounds`: the trainings (or comparisons) that the busiest process does one after another.
    """

    parts: tuple[tuple[int, ...], ...]
    workers: int
    rounds: int

    @property
    def weight(self) -> float:
        """The time of the busiest process, in trainings of one network in a large stack."""
        return self.rounds * (max(map(len, self.parts)) + PER_STACK)


def cut(spec: Spec, stage: Stage, processes: int) -> Cut:
    """The fastest cut, for this many processes, of a stage that trains or compares; of equal ones the fewest parts."""
    length, chained = _turns(spec, stage)
    counts = range(1, len(stage.replicates) + 1)
    cuts = [_cut(stage.replicates, count, length, chained, processes) for count in counts]
    return min(cuts, key=lambda made: made.weight)


def is_chain(spec: Spec, stage: Stage) -> bool:
    """Whether each of a stage's stacks starts from the one before."""
    return stage.kind == "levels" and spec.scale.experiments[stage.experiment].pruning.style != "one_shot"


@lru_cache(maxsize=1024)
def _turns(spec: Spec, stage: Stage) -> tuple[int, bool]:
    """How many stacks a stage trains, or groups of pairs it compares, and whether each starts from the one before."""
    if stage.kind == "stability":
        return len(pairs(spec, stage)), False
    return len(stacks(spec, stage)), is_chain(spec, stage)


def _cut(replicates: tuple[int, ...], count: int, length: int, chained: bool, processes: int) -> Cut:
    """The cut into a number of parts of nearly equal sizes."""
    size, more = divmod(len(replicates), count)
    ends = [part * size + min(part, more) for part in range(count + 1)]
    parts = tuple(replicates[ends[part] : ends[part + 1]] for part in range(count))
    workers = max(1, min(processes, count if chained else count * length))
    rounds = max(math.ceil(count * length / workers), length if chained else 1)
    return Cut(parts, workers, rounds)
