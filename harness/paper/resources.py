"""papers/<paper>/resources.yaml: what a job asks of a machine or a queue, by scale, rule and experiment.

It stands apart from the scales, so that asking for more minutes changes nothing that a result depends on.
"""

from pathlib import Path

from pydantic import Field

from harness.paper.load import read_models
from harness.paper.models import Count, Model, Step


class Ask(Model):
    """What is set here of what a job asks for; the rest is taken from what is more general."""

    threads: Count | None = None
    """CPU threads."""
    memory_mb: Count | None = None
    """Memory of the whole job, in MiB."""
    minutes: Count | None = None
    """The longest that the job may take."""
    gpu: Step | None = None
    """GPUs of the whole job."""
    grouped: bool | None = None
    """Submit the short jobs of one rewind iteration, or those that judge, as one."""


class Need(Model):
    """All that a job asks for."""

    threads: Count = 1
    memory_mb: Count = 2000
    minutes: Count = 60
    gpu: Step = 0
    grouped: bool = False


class Resources(Model):
    """What the jobs of a scale ask for. The most particular entry of each field counts."""

    rules: dict[str, Ask] = Field(default={})
    """By rule: `prepare`, `dense`, `orders`, `levels`, `branches`, `stability`, `tickets`, `collect`, `claims`,
    `report`, `card`, or `default` for all."""
    experiments: dict[str, dict[str, Ask]] = Field(default={})
    """By experiment and rule. This goes before `rules`. For the rule `prepare`, data sets stand in place of
    experiments."""

    @property
    def gpus(self) -> bool | None:
        """Whether any rule asks for a GPU; None without rules."""
        entries = [entry for table in (self.rules, *self.experiments.values()) for entry in table.values()]
        return any(entry.gpu for entry in entries) if entries else None

    def need(self, rule: str, experiment: str = "") -> Need:
        """What a job of a rule asks for: the most particular entry of each field."""
        found: dict[str, object] = {}
        for table in (self.rules, self.experiments.get(experiment, {})):
            for entry in (table.get("default"), table.get(rule)):
                if entry is not None:
                    found |= entry.model_dump(exclude_none=True)
        return Need.model_validate(found)


def load_resources(folder: Path, scale: str) -> Resources:
    """The entry of a scale in a paper's folder; the defaults where there is none. Raises HarnessError."""
    path = folder / "resources.yaml"
    if not path.exists():
        return Resources()
    scales: dict[str, Resources] = read_models(path, dict[str, Resources], {})
    return scales.get(scale, Resources())
