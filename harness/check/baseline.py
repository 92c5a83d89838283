"""The results of a finished run in a small committed file: papers/<paper>/baselines/<scale>.json.

A check compares verdicts and calibration values with it. Digests show smaller changes. `rows` covers which rows the
table has and how many weights remain in each network: it is the same on every machine. `values` and `curves` cover
every number to the last bit, which another kind of machine does not reproduce.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from harness.base.errors import HarnessError, system_error
from harness.base.files import canonical_json, digest, write_json
from harness.base.git import git
from harness.claims.document import Verdict
from harness.paper.load import describe

LARGEST = 2**20  # bytes; a baseline has some tens of kilobytes
COMMITTED = "committed"
REMAKE = "write a new one with `harness check --write-baseline`"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Record(BaseModel):
    """A record that can't be changed and refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClaimResult(Record):
    """One claim that the scale judges. `prediction` is the digest of its entry in claims.yaml, `numbers` that of the
    numbers of its parts."""

    verdict: Verdict
    estimate: Number | None
    interval: tuple[Number | None, Number | None] | None
    replicates: int
    prediction: Digest
    numbers: Digest


class Calibration(Record):
    """A measure of an experiment's dense networks, and the band it should lie in, if any."""

    value: Number | None
    band: tuple[Number, Number] | None

    @property
    def fits(self) -> bool:
        """Whether the value lies in its band."""
        return self.holds(self.value)

    def holds(self, value: float | None) -> bool:
        """Whether a value lies in the band. False without a value or a band."""
        return value is not None and self.band is not None and self.band[0] <= value <= self.band[1]


class Rows(Record):
    """How many rows of the table an experiment has, and digests of these rows and of its curves."""

    networks: int
    pairs: int
    rows: Digest
    values: Digest
    curves: Digest


class Baseline(Record):
    """A run's results. `machines` names the kinds of machine that computed them, `code` has a digest of each part of
    the code, `calibration` names its values as "<experiment>.<measure>"."""

    baseline: Literal[1] = 1
    paper: str
    scale: str
    judges_claims: bool
    code: dict[str, Digest]
    machines: list[str]
    claims: dict[str, ClaimResult]
    calibration: dict[str, Calibration]
    tables: dict[str, Rows]

    @property
    def supported(self) -> set[str]:
        """The claims that this run supports."""
        return {name for name, claim in self.claims.items() if claim.verdict == "supported"}


def baseline_path(folder: Path, scale: str) -> Path:
    """The committed baseline of a scale, below its paper's folder."""
    return folder / "baselines" / f"{scale}.json"


def write_baseline(path: Path, results: Baseline) -> None:
    """Write a baseline with the digest of its content, which reveals an accidental change, not a deliberate one."""
    content = results.model_dump(mode="json")
    write_json(path, {**content, "sha256": digest(content)})


def read_baseline(reference: str, folder: Path, paper: str, scale: str) -> tuple[Baseline, str]:
    """The baseline that a reference names, and where it was read.

    A reference is `committed` (the file in the checkout), a path, or a git revision, whose committed file is read.
    Raises HarnessError for a baseline that is missing, damaged, or of another paper or scale.
    """
    path = baseline_path(folder, scale)
    root = folder.parent.parent
    name = path.relative_to(root).as_posix()
    if reference.startswith("-") or not reference.strip() or not reference.isprintable():
        raise HarnessError(f"--baseline {reference!r}: give a file, a git revision or {COMMITTED}")
    if reference == COMMITTED:
        if not path.is_file():
            raise HarnessError(f"{name}: missing; make it with `harness check --scale {scale} --write-baseline`")
        return _checked(_read(path), name, paper, scale), name
    if Path(reference).is_file():
        return _checked(_read(Path(reference)), reference, paper, scale), reference
    where = f"{reference}:{name}"
    return _checked(_of_revision(reference, root, name), where, paper, scale), where


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise system_error(error, path) from None


def _of_revision(revision: str, root: Path, name: str) -> bytes:
    """The content that the file `name` of a checkout has in a git revision."""
    commit = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise HarnessError(f"--baseline {revision!r}: no such file or git revision in {root}")
    blob = f"{commit.decode().strip()}:{name}"
    size = git(root, "cat-file", "-s", blob)
    content = git(root, "cat-file", "blob", blob) if size is not None and int(size) <= LARGEST else None
    if content is None:
        problem = f"has no {name}" if size is None else f"has {int(size)} bytes in {name}, too many for a baseline"
        raise HarnessError(f"--baseline {revision!r}: this revision {problem}; give another revision, or a file")
    return content


def _checked(content: bytes, where: str, paper: str, scale: str) -> Baseline:
    """Parse a baseline and compare it with its own digest."""
    if len(content) > LARGEST:
        raise HarnessError(f"{where}: more than {LARGEST} bytes, too many for a baseline; {REMAKE}")
    try:
        raw: Any = json.loads(content)
        if not isinstance(raw, dict):
            raise ValueError("not an object")
        recorded = raw.pop("sha256", None)
        actual = digest(raw)
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{where}: not a baseline in JSON ({error}); {REMAKE}") from None
    if recorded != actual:
        raise HarnessError(f"{where}: sha256: does not match the content, which was altered; {REMAKE}")
    try:
        baseline = Baseline.model_validate_json(canonical_json(raw), strict=True)
    except ValidationError as error:
        raise HarnessError(f"{where}: {describe(error, Baseline)}; {REMAKE}") from None
    if (baseline.paper, baseline.scale) != (paper, scale):
        raise HarnessError(
            f"{where}: a baseline of {baseline.paper} at {baseline.scale}; give one of {paper} at {scale}"
        )
    return baseline
