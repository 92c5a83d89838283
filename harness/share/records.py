"""The forms of a stage's record and of provenance.json, for those that came from somebody else's disk."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import HarnessError
from harness.spec.load import describe

LATEST = 1e11  # seconds since 1970: thousands of years
Amount = Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Model(BaseModel):
    """A record without conversions. Other fields than these stand in no file of the harness."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Hardware(Model):
    """A machine, as `harness.workflow.environment` describes it."""

    cpu: str
    cores: Count | None
    memory_gib: Amount
    gpu: str
    kernels: str
    platform: str


class Record(Model):
    """What a stage notes of itself."""

    stage: str
    kind: str
    experiment: str
    digest: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    code_revision: str
    tree_clean: bool | None
    image: str
    packages: dict[str, str]
    hardware: Hardware
    started: Amount
    finished: Amount
    seconds: Amount
    training_seconds: Amount
    network_seconds: Amount | None = None
    steps: Count
    threads: Count
    peak_memory_mib: Count
    pairs: Count = 0


class Provenance(Model):
    """What made a run, with the records of its stages, each once."""

    paper: str
    scale: str
    harness_version: str
    code_revision: str
    tree_clean: bool | None
    image: str
    packages: dict[str, str]
    hardware: Hardware
    started: str
    finished: str
    wall_clock_seconds: Amount
    network_core_seconds: Amount
    training_share: Amount
    energy_joules: Amount | None
    stages: list[Record]

    @model_validator(mode="after")
    def _each_stage_once(self) -> Self:
        names = [record.stage for record in self.stages]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"stage {twice[0]!r:.120} stands twice in stages")
        return self


def check_form(form: type[Model], found: Any, path: Path) -> dict[str, Any]:
    """The JSON value, if it has this form. Raises HarnessError with its first fault otherwise."""
    try:
        form.model_validate(found)
    except ValidationError as error:
        raise HarnessError(f"{path}: {describe(error, form)}. Pull it again") from None
    return dict(found)
