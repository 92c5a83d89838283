"""What a scale, or a selection of its claims, would run and cost: counts, measured times, what is there already."""

from dataclasses import dataclass
from functools import cached_property

from harness.budget import judged, needs, selected
from harness.calibrate import LONGEST_SECONDS, Cost, costs, line_seconds, run_seconds
from harness.choice import Choice, Prices, choose, together
from harness.plan import Pair, Run, all_runs, pairs, stages
from harness.spec import Spec
from harness.workflow.context import Folders
from harness.workflow.reuse import remaining, stored, trained_as


@dataclass(frozen=True)
class Plan:
    """A scale with its measured cost, what of it is one training, and what is there already."""

    spec: Spec
    folders: Folders
    at_most: float = LONGEST_SECONDS

    @cached_property
    def owners(self) -> dict[Run, Run]:
        return trained_as(self.spec, self.folders)

    @cached_property
    def there(self) -> dict[Run, bool]:
        return stored(self.spec, self.folders)

    @cached_property
    def costs(self) -> list[Cost]:
        """Each experiment's cost, without the runs that an earlier one trains."""
        return self._costs()

    def _costs(self, measured: dict[str, Cost] | None = None) -> list[Cost]:
        return costs(self.spec, self.at_most, [run for run, owner in self.owners.items() if run == owner], measured)

    @cached_property
    def prices(self) -> Prices:
        """Seconds of every training and, by its later network, of comparing every pair, as if nothing were there."""
        comparing: dict[Run, float] = {}
        for pair, seconds in line_seconds(self.spec, self.costs).items():
            comparing[pair.run_b] = comparing.get(pair.run_b, 0.0) + seconds
        return Prices(run_seconds(self.spec, self.costs), self.owners, comparing)

    @cached_property
    def left(self) -> Prices:
        """The same of what is still to be done."""
        done, compared = {self.owners[run] for run in self.there}, self._compared
        comparing: dict[Run, float] = {}
        for pair, seconds in line_seconds(self.spec, self.costs).items():
            comparing[pair.run_b] = comparing.get(pair.run_b, 0.0) + (0.0 if pair in compared else seconds)
        training = {run: 0.0 if run in done else seconds for run, seconds in self.prices.training.items()}
        return Prices(training, self.owners, comparing)

    @cached_property
    def _compared(self) -> set[Pair]:
        """The pairs of finished stages, if both networks are there still."""
        finished = (
            stage
            for stage in stages(self.spec)
            if stage.kind == "stability" and self.folders.stage(stage.name).exists()
        )
        found = (pair for stage in finished for group in pairs(self.spec, stage) for pair in group)
        return {pair for pair in found if pair.run in self.there and pair.run_b in self.there}

    @cached_property
    def needs(self) -> dict[str, frozenset[Run]]:
        """What each claim of the scale needs."""
        return {claim: needs(self.spec, claim) for claim in judged(self.spec)}

    @cached_property
    def for_claims(self) -> set[Run]:
        """What all claims need together; the rest of the scale serves figures, or replicates that no claim asks for."""
        return together(self.needs, self.needs)

    def todo(self) -> list[Run]:
        """The trainings still to be done."""
        return remaining(all_runs(self.spec), self.owners, self.there)

    def choice(self, budget: float) -> Choice:
        """The claims for a budget in seconds of one core or GPU; what is in the store costs nothing."""
        return choose(self.needs, self.left, budget)

    def part(self, claims: list[str]) -> "Plan":
        """The plan of some claims alone, with what has been measured already."""
        made = Plan(selected(self.spec, claims), self.folders, self.at_most)
        if "costs" in self.__dict__:
            made.__dict__["costs"] = made._costs({cost.experiment: cost for cost in self.costs})
        return made
