"""The results card: how a run was produced, and the checksum of every shared file, in one small file."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from harness.base.errors import HarnessError
from harness.base.files import file_sha256, read_json, write_json
from harness.base.untrusted import LEFTOVERS, read_checked_json
from harness.claims.document import VERDICTS, read_claims
from harness.claims.looks import Look, read_looks
from harness.paper import Spec, frozen
from harness.paper.load import describe
from harness.report.summary import counts
from harness.results.folders import PART, SHARED, Folders
from harness.results.keys import JUDGED, distinct, identity, stage_digest
from harness.results.selection import read_selection
from harness.results.store import SNAPSHOTS

# a file can't hold its own checksum, and the crate quotes the card's
NOT_LISTED = ("card.json", "ro-crate-metadata.json")


def _shared_name(name: str) -> str:
    if not SHARED.fullmatch(name) or name in NOT_LISTED or ".." in PurePosixPath(name).parts:
        raise ValueError(f"{name!r:.200} is no file that a run shares")
    return name


def _known_verdict(name: str) -> str:
    if name not in VERDICTS:
        raise ValueError(f"{name!r:.80} is no verdict; there are {', '.join(VERDICTS)}")
    return name


Verdict = Annotated[str, AfterValidator(_known_verdict)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, AfterValidator(_shared_name)]
Size = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Model(BaseModel):
    """A closed record without conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Shared(Model):
    """A shared file when the card was written."""

    sha256: Sha256
    bytes: Size


class Code(Model):
    """The revision, whether its tree was clean (None where git can't tell), and digests of the code by part."""

    revision: str
    tree_clean: bool | None
    digests: dict[str, Sha256]


class Card(Model):
    """card.json. `hardware` and `images` are those of all stages; the image "" is a stage that ran outside any.

    `frozen`: the dates at which the claims' regions were frozen; `moves`: what moved since, with errata.
    `looks`: looks.json.
    """

    card: Literal[1]
    paper: str
    scale: str
    title: str
    harness_version: str
    code: Code
    parts: dict[str, str]
    spec: dict[str, Sha256]
    frozen: list[str]
    moves: list[str]
    looks: list[Look]
    data: dict[str, str | None]
    packages: dict[str, str]
    hardware: list[dict[str, Any]]
    images: list[str]
    started: str
    finished: str
    wall_clock_seconds: Amount
    network_core_seconds: Amount
    cpu_seconds: Amount | None = None
    energy_joules: Amount | None
    verdicts: dict[Verdict, Size]
    networks: Size
    files: dict[Name, Shared]


def write_card(spec: Spec, folders: Folders) -> None:
    """Write card.json of a finished run."""
    selection = read_selection(folders)
    if selection:  # this stage ends the run
        write_json(folders.selection, {**selection, "finished": True})
    provenance, identities = read_json(folders.provenance), identity(spec)
    card = Card(
        card=1,
        paper=spec.paper.id,
        scale=spec.scale_name,
        title=spec.paper.title,
        harness_version=provenance["harness_version"],
        code=Code(
            revision=provenance["code_revision"], tree_clean=provenance["tree_clean"], digests=identities["code"]
        ),
        parts={kind: stage_digest(spec, folders, kind) for kind in JUDGED},
        spec=identities["spec"],
        frozen=frozen.dates(spec.scale_name, spec.frozen),
        moves=frozen.moves(spec.claims, spec.scale_name, spec.frozen),
        looks=read_looks(folders.looks),
        data=dict(identities["data"]),
        packages=provenance["packages"],
        hardware=distinct(provenance["stages"], "hardware", {}),
        images=distinct(provenance["stages"], "image", ""),
        started=provenance["started"],
        finished=provenance["finished"],
        wall_clock_seconds=provenance["wall_clock_seconds"],
        network_core_seconds=provenance["network_core_seconds"],
        cpu_seconds=provenance.get("cpu_seconds"),
        energy_joules=provenance["energy_joules"],
        verdicts=counts(read_claims(folders.claims)),
        networks=sum(not name.endswith(SNAPSHOTS) for name in read_json(folders.networks)),
        files=_checksums(folders.base),
    )
    write_json(folders.card, card.model_dump(mode="json"))


def _checksums(base: Path) -> dict[str, Shared]:
    files = {path.relative_to(base).as_posix(): path for path in shared_files(base)}
    return {
        name: Shared(sha256=file_sha256(path), bytes=path.stat().st_size)
        for name, path in files.items()
        if name not in NOT_LISTED
    }


def shared_files(base: Path) -> list[Path]:
    """The files of a run that a reader pulls, sorted by name; of weights only those of its tickets."""
    listings = [base.glob("*"), *((base / name).rglob("*") for name in ("report", "tickets", "stages", "prepare"))]
    files = {path.relative_to(base).as_posix(): path for paths in listings for path in paths if path.is_file()}
    own = {name for name, path in files.items() if not PART.fullmatch(path.name) and not LEFTOVERS.fullmatch(path.name)}
    return [files[name] for name in sorted(own) if SHARED.fullmatch(name)]


def read_card(folders: Folders) -> dict[str, Any]:
    """The card of a run, which may be untrusted. Raises HarnessError if it is missing or malformed."""
    return check_card(read_checked_json(folders.card), folders.card)


def check_card(content: Any, path: Path) -> dict[str, Any]:
    """The validated content of card.json. Raises HarnessError, which names `path`, if it is malformed."""
    try:
        return Card.model_validate(content).model_dump(mode="json")
    except ValidationError as error:
        raise HarnessError(f"{path}: {describe(error, Card)}. Pull it again, or make it anew") from None
