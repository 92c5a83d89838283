"""The forms of a run's records that came from somebody else's disk."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from harness.base.errors import HarnessError
from harness.paper.load import describe
from harness.report.card import Model

LATEST = 1e11  # seconds since 1970: thousands of years
Amount = Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Hardware(Model):
    """A machine, as `harness.results.environment` describes it."""

    cpu: str
    cores: Count | None
    memory_gib: Amount
    gpu: str
    kernels: str
    platform: str


class MadeWith(Model):
    """What made a record: code, image, packages and machine."""

    code_revision: str
    tree_clean: bool | None
    image: str
    packages: dict[str, str]
    hardware: Hardware


class Record(MadeWith):
    """What a stage notes of itself."""

    stage: str
    kind: str
    experiment: str
    digest: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    started: Amount
    finished: Amount
    seconds: Amount
    cpu_seconds: Amount | None = None
    training_seconds: Amount
    network_seconds: Amount | None = None
    steps: Count
    invariants: list[str] = Field([])
    threads: Count
    peak_memory_mib: Count
    pairs: Count = 0


def _each_once(records: list[Record]) -> list[Record]:
    names = [record.stage for record in records]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"stage {twice[0]!r:.120} is duplicated")
    return records


class Provenance(MadeWith):
    """What made a run, with the records of its stages."""

    paper: str
    scale: str
    harness_version: str
    started: str
    finished: str
    wall_clock_seconds: Amount
    network_core_seconds: Amount
    cpu_seconds: Amount | None = None
    training_share: Amount
    energy_joules: Amount | None
    stages: Annotated[list[Record], AfterValidator(_each_once)]


class Network(Model):
    """One entry of networks.json: a run, or the snapshots of a dense run, which have checksums only."""

    key: str
    sha256: str
    parts: dict[str, str]
    inputs: dict[str, str] = Field({})
    status: Literal["ok", "diverged", "ancestor_diverged"] = "ok"
    diverged_at: int | None = None
    id: str = ""
    experiment: str = ""
    replicate: int = 0
    k: int = 0
    level: int = 0
    branch: str = ""
    data_order: int = 0
    steps: int = 0
    snapshots: list[int] = Field([])
    density: float | None = None
    remaining: int | None = None
    prunable: int | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    train_accuracy: float | None = None
    train_loss: float | None = None
    start_test_accuracy: float | None = None
    operations: float | None = None
    seconds: float = 0.0
    stack_seconds: float = 0.0
    invariants: list[str] = Field([])
    trained_as: str | None = None
    computed_with: dict[str, str] = Field({})
    checksum: str = ""

    @property
    def trained(self) -> bool:
        """Whether it is a network that was trained, however that ended."""
        return self.status != "ancestor_diverged"


Form = TypeVar("Form")


def check_form(form: type[Form], value: Any, path: Path) -> Form:
    """The JSON value as this form. Raises HarnessError with its first fault."""
    try:
        return TypeAdapter(form).validate_python(value)
    except ValidationError as error:
        raise HarnessError(f"{path}: {describe(error, form)}. Pull it again") from None
