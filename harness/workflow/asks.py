"""What the workflow's rules say of each job to whatever schedules it: threads, memory, run time, GPUs, groups."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from harness.paths import checkout
from harness.spec.resources import Need, Resources, Rule, load_resources

Wildcards = Any


class Asks:
    """A paper's resources at a scale, as functions that the rules hand to the workflow engine."""

    def __init__(self, paper: str, scale: str):
        self.paper, self.scale = paper, scale

    @cached_property
    def _resources(self) -> Resources:
        return load_resources(checkout() / "papers" / self.paper, self.scale)

    def need(self, rule: Rule, wildcards: Wildcards) -> Need:
        """What a job asks for. Its experiment, or the data set that it prepares, is among the wildcards."""
        return self._resources.need(rule, getattr(wildcards, "experiment", getattr(wildcards, "data", "")))

    def threads(self, rule: Rule) -> Callable[[Wildcards], int]:
        return lambda wildcards: self.need(rule, wildcards).threads

    def memory(self, rule: Rule) -> Callable[[Wildcards, int], int]:
        """MiB; twice as much at a further attempt, for a job that was ended for taking too much.

        Not more: most jobs are tried again because they were preempted or out of time, some of them many times.
        """
        return lambda wildcards, attempt: self.need(rule, wildcards).memory_mb * min(attempt, 2)

    def minutes(self, rule: Rule) -> Callable[[Wildcards], int]:
        """The same at each attempt: a training that was cut off goes on from the state that it kept."""
        return lambda wildcards: self.need(rule, wildcards).minutes

    def gpu(self, rule: Rule) -> Callable[[Wildcards], int | None]:
        """None, which asks for nothing, where 0 would be a request for no GPU that some queues refuse."""
        return lambda wildcards: self.need(rule, wildcards).gpu or None

    def maker(self, rule: Rule) -> str:
        """Whose GPUs, which Kubernetes wants to be told: of every job, since those of one group must agree."""
        return "nvidia"

    def group(self, rule: Rule) -> Callable[[Wildcards], str | None]:
        """One job of the queue for all of a chunk with one rewind iteration, or for its dense networks, or to judge."""

        def name(wildcards: Wildcards) -> str | None:
            if not self.need(rule, wildcards).grouped:
                return None
            if not hasattr(wildcards, "experiment"):
                return "judging"
            part = getattr(wildcards, "what", None) or (f"k{wildcards.k}" if hasattr(wildcards, "k") else "dense")
            return f"{wildcards.experiment}-c{wildcards.chunk}-{part}"

        return name
