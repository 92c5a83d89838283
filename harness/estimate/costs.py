"""The plan of a scale, or of some of its claims: counts, measured times, and what is stored already."""

from dataclasses import dataclass, replace
from functools import cached_property

from harness.estimate.budget import Choice, Prices, choose, together
from harness.estimate.cards import Card
from harness.estimate.schedule import Jobs, jobs_of
from harness.estimate.timing import LONGEST_SECONDS, Cost, costs, line_seconds, run_seconds
from harness.paper import Spec
from harness.plan.needs import judged, needs, selected
from harness.plan.runs import Pair, Run, all_runs, pairs, stages
from harness.results.folders import Folders
from harness.results.stored import remaining, stored, trained_as


@dataclass(frozen=True)
class Plan:
    """A scale with its costs, its shared trainings, and the runs that are stored already.

    Costs are measured here, or with a `card` are those of a GPU by its published rates.
    """

    spec: Spec
    folders: Folders
    at_most: float = LONGEST_SECONDS
    card: Card | None = None

    @cached_property
    def owners(self) -> dict[Run, Run]:
        return trained_as(self.spec, self.folders)

    @cached_property
    def in_store(self) -> dict[Run, bool]:
        return stored(self.spec, self.folders)

    @cached_property
    def costs(self) -> list[Cost]:
        """Each experiment's cost, without the runs that an earlier experiment trains."""
        return self._costs()

    def _costs(self, measured: dict[str, Cost] | None = None) -> list[Cost]:
        runs = [run for run, owner in self.owners.items() if run == owner]
        return costs(self.spec, self.at_most, runs, measured, self.card)

    @cached_property
    def prices(self) -> Prices:
        """Seconds of every training and of comparing every pair (by its later network), stored or not."""
        comparing: dict[Run, float] = {}
        for pair, seconds in line_seconds(self.spec, self.costs).items():
            comparing[pair.run_b] = comparing.get(pair.run_b, 0.0) + seconds
        return Prices(run_seconds(self.spec, self.costs), self.owners, comparing)

    @cached_property
    def left(self) -> Prices:
        """The same for the remaining work: stored runs and finished comparisons cost 0."""
        done, compared = {self.owners[run] for run in self.in_store}, self._compared
        comparing: dict[Run, float] = {}
        for pair, seconds in line_seconds(self.spec, self.costs).items():
            comparing[pair.run_b] = comparing.get(pair.run_b, 0.0) + (0.0 if pair in compared else seconds)
        training = {run: 0.0 if run in done else seconds for run, seconds in self.prices.training.items()}
        return Prices(training, self.owners, comparing)

    def jobs(self, cores: int, left: bool = False) -> Jobs:
        """The jobs of the scale on some cores, of the whole scale or of the remaining work."""
        prices = self.left if left else self.prices
        training = {run: prices.training[run] for run, owner in self.owners.items() if run == owner}
        return jobs_of(self.spec, self.folders, training, line_seconds(self.spec, self.costs), cores, left)

    @cached_property
    def _compared(self) -> set[Pair]:
        """The pairs of finished stages whose networks are both still stored."""
        finished = (
            stage
            for stage in stages(self.spec)
            if stage.kind == "stability" and self.folders.stage(stage.name).exists()
        )
        candidates = (pair for stage in finished for group in pairs(self.spec, stage) for pair in group)
        return {pair for pair in candidates if pair.run in self.in_store and pair.run_b in self.in_store}

    @cached_property
    def needs(self) -> dict[str, frozenset[Run]]:
        """The runs that each claim of the scale needs."""
        return {claim: needs(self.spec, claim) for claim in judged(self.spec)}

    @cached_property
    def for_claims(self) -> set[Run]:
        """The runs that all claims need; the others are for figures, or replicates beyond what claims need."""
        return together(self.needs, self.needs)

    def todo(self) -> list[Run]:
        """The trainings still to be done."""
        return remaining(all_runs(self.spec), self.owners, self.in_store)

    def choice(self, budget: float) -> Choice:
        """The claims that fit a budget in seconds of one core or GPU; stored runs cost nothing."""
        return choose(self.needs, self.left, budget)

    def part(self, claims: list[str]) -> "Plan":
        """The plan of these claims only; it reuses the times measured so far."""
        plan = replace(self, spec=selected(self.spec, claims))
        if "costs" in self.__dict__:
            plan.__dict__["costs"] = plan._costs({cost.experiment: cost for cost in self.costs})
        return plan
