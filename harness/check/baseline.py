"""What a finished run showed, in a small committed file: papers/<paper>/baselines/<scale>.json.

Verdicts and calibration values are what a check holds against it. Digests tell more, where they can: `rows` is of which
rows the table has and how many weights remain in each network, the same on every machine; `values` and `curves` are of
every number to the last bit, which another kind of machine does not reproduce.
"""

import json
import subprocess
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from harness.claims.verdicts import Verdict
from harness.errors import HarnessError
from harness.files import canonical_json, digest, write_json
from harness.spec.load import describe

LARGEST = 2**20  # bytes; a baseline has some tens of kilobytes
COMMITTED = "committed"
REMAKE = "make it anew with `harness check --write-baseline`"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Record(BaseModel):
    """A closed, frozen record."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClaimResult(Record):
    """One claim that the scale judges. `prediction` is of its entry in claims.yaml, `numbers` of all its parts'."""

    verdict: Verdict
    estimate: Number | None
    interval: tuple[Number | None, Number | None] | None
    replicates: int
    prediction: Digest
    numbers: Digest


class Calibration(Record):
    """Mean test accuracy in percent of an experiment's dense networks, and the band it should lie in, if it has one."""

    value: Number | None
    band: tuple[Number, Number] | None

    @property
    def fits(self) -> bool:
        """Whether the value lies in its band."""
        return self.holds(self.value)

    def holds(self, value: float | None) -> bool:
        """Whether a value lies in the band; none lies in no band."""
        return value is not None and self.band is not None and self.band[0] <= value <= self.band[1]


class Rows(Record):
    """One experiment's rows of the table, and its curves."""

    networks: int
    pairs: int
    rows: Digest
    values: Digest
    curves: Digest


class Baseline(Record):
    """A run's results. `machines` names the kinds of machine that computed them, `code` digests the code's parts."""

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


def committed(folder: Path, scale: str) -> Path:
    """The place of a scale's baseline below its paper's folder."""
    return folder / "baselines" / f"{scale}.json"


def write_baseline(path: Path, results: Baseline) -> None:
    """Write a baseline with the digest of its own content, which finds a change by accident, not one by intent."""
    content = results.model_dump(mode="json")
    write_json(path, {**content, "sha256": digest(content)})


def read_baseline(reference: str, folder: Path, paper: str, scale: str) -> tuple[Baseline, str]:
    """The baseline that REF means, and where it was read.

    `committed` is the file in the checkout; else a file's path; else a git revision, of which the committed file is
    read. Raises HarnessError for one that is not there, is damaged, or is another paper's or scale's.
    """
    place = committed(folder, scale)
    named = place.relative_to(folder.parent.parent).as_posix()
    if reference.startswith("-") or not reference.strip() or not reference.isprintable():
        raise HarnessError(f"--baseline {reference!r}: give a file, a git revision or {COMMITTED}")
    if reference == COMMITTED:
        if not place.is_file():
            raise HarnessError(f"{named}: missing; make it with `harness check --scale {scale} --write-baseline`")
        return _checked(_read(place), named, paper, scale), named
    if Path(reference).is_file():
        return _checked(_read(Path(reference)), reference, paper, scale), reference
    where = f"{reference}:{named}"
    return _checked(_of_revision(reference, place, named), where, paper, scale), where


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise HarnessError(f"{path}: can't be read ({error.strerror})") from None


def _of_revision(revision: str, place: Path, named: str) -> bytes:
    """The content of a file, `named` in messages, as of a git revision."""
    found = _git(place, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found is None:
        raise HarnessError(f"--baseline {revision!r}: no such file, and no git revision here")
    file = f"{found.decode().strip()}:./{place.parent.name}/{place.name}"
    size = _git(place, "cat-file", "-s", file)
    content = _git(place, "cat-file", "blob", file) if size is not None and int(size) <= LARGEST else None
    if content is None:
        what = "has no such file" if size is None else f"holds {int(size)} bytes, too many for a baseline"
        raise HarnessError(f"--baseline {revision!r}: this revision {what}: {named}; give another, or a file")
    return content


def _git(place: Path, *arguments: str) -> bytes | None:
    """Output of git in the paper's folder, None where it fails; paths that begin with ./ are relative to that."""
    command = ["git", "-C", str(place.parent.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except OSError as error:
        raise HarnessError(f"git can't be run ({error.strerror}): give --baseline a file") from None
    except subprocess.TimeoutExpired:
        raise HarnessError("git gave no answer within a minute: give --baseline a file") from None
    return done.stdout if done.returncode == 0 else None


def _checked(content: bytes, where: str, paper: str, scale: str) -> Baseline:
    """Parse a baseline and hold it against its own digest."""
    if len(content) > LARGEST:
        raise HarnessError(f"{where}: more than {LARGEST} bytes, too many for a baseline; {REMAKE}")
    try:
        raw: Any = json.loads(content)
        if not isinstance(raw, dict):
            raise ValueError("it is no object")
        recorded = raw.pop("sha256", None)
        actual = digest(raw)
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{where}: is no JSON of a baseline ({error}); {REMAKE}") from None
    if recorded != actual:
        raise HarnessError(f"{where}: sha256: does not fit its content, which was altered; {REMAKE}")
    try:
        found = Baseline.model_validate_json(canonical_json(raw), strict=True)
    except ValidationError as error:
        raise HarnessError(f"{where}: {describe(error, Baseline)}; {REMAKE}") from None
    if (found.paper, found.scale) != (paper, scale):
        raise HarnessError(f"{where}: is of {found.paper} at {found.scale}, not of {paper} at {scale}; give its own")
    return found
