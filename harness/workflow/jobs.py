"""The resources that each rule requests from the scheduler: threads, memory, run time, GPUs, groups."""

from dataclasses import dataclass
from typing import Any

from harness.base.errors import HarnessError
from harness.paper.resources import Need, Resources, load_resources
from harness.plan.kinds import KINDS, WHOLE, data_set_of, kind_of
from harness.plan.runs import find_stage
from harness.workflow.rules import Rules

Wildcards = Any
PLANNED = ""  # in place of a rule's name: use the rule of the stage that the wildcards name
DEFAULT = "default"  # in resources.yaml: the values for every rule


@dataclass(frozen=True)
class Job:
    """The resources that jobs request: functions that the workflow engine calls with a job's wildcards.

    Without a `rule`, the rule is that of the stage that the wildcards name.
    """

    rule: str
    resources: Resources
    rules: Rules

    def need(self, wildcards: Wildcards) -> Need:
        """The resources that a job requests, by its rule and its experiment or data set."""
        if self.rule:
            return self.resources.need(self.rule)
        kind = kind_of(wildcards.name).name
        stage = None if kind == "prepare" else find_stage(self.rules.spec, wildcards.name)
        return self.resources.need(kind, stage.experiment if stage else data_set_of(wildcards.name))

    @property
    def threads(self) -> Any:
        return lambda wildcards: self._processes(wildcards) or self.need(wildcards).threads

    def _processes(self, wildcards: Wildcards) -> int:
        """The processes that share the work of a job's stage, by the plan for this machine's cores; 0: not planned."""
        return 0 if self.rule else self.rules.processes.get(wildcards.name, 0)

    @property
    def memory(self) -> Any:
        """MiB; doubled at a second attempt, in case the job was killed for using too much memory.

        Further attempts don't request more: most retries follow a preemption or a time limit, some of them many times.
        """

        def memory(wildcards: Wildcards, attempt: int) -> int:
            return self.need(wildcards).memory_mb * max(1, self._processes(wildcards)) * min(attempt, 2)

        return memory

    @property
    def minutes(self) -> Any:
        """The same at each attempt: an interrupted training resumes from its checkpoint."""
        return lambda wildcards: self.need(wildcards).minutes

    @property
    def gpu(self) -> Any:
        """None if no GPU is needed: it requests nothing, while some queues refuse a request for 0 GPUs."""
        return lambda wildcards: self.need(wildcards).gpu or None

    @property
    def gpu_manufacturer(self) -> str:
        """Kubernetes needs it, for every job, since the jobs of a group must agree."""
        return "nvidia"

    @property
    def group(self) -> Any:
        """Names the group whose stages share one job of a queue: by chunk and k or dense, or those that judge."""

        def name(wildcards: Wildcards) -> str | None:
            if not self.need(wildcards).grouped:
                return None
            if self.rule:
                return "judging"
            stage = find_stage(self.rules.spec, wildcards.name)
            if stage.kind == "tickets":  # these stages wait for all groups of a chunk
                return None
            return f"{stage.experiment}-c{stage.chunk}-{'dense' if stage.k is None else f'k{stage.k}'}"

        return name


def jobs(rules: Rules) -> dict[str, Job]:
    """The jobs of the planned stages and of each stage of the whole run. Raises HarnessError for unknown rules."""
    folder = rules.spec.folder
    resources = load_resources(folder, rules.scale)
    for rule in {*resources.rules, *(rule for entry in resources.experiments.values() for rule in entry)}:
        if rule not in (DEFAULT, *KINDS):
            known = ", ".join((DEFAULT, *KINDS))
            raise HarnessError(
                f"{folder / 'resources.yaml'}: {rules.scale}: {rule!r} is not a rule; choose one of {known}"
            )
    return {rule: Job(rule, resources, rules) for rule in (PLANNED, *WHOLE)}
