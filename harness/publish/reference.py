"""A reference: the small files of a finished run in reference/<paper>/<scale>/, laid out as results are.

So every command that reads results reads it too. It is as untrusted as any other run's folder. What was measured has
the card's checksums. The verdicts follow from it, so they are made again by the code of today and compared.
"""

from collections.abc import Iterator
from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.files import file_sha256
from harness.base.paths import REFERENCE, results_folder
from harness.claims.looks import read_looks
from harness.report.card import read_card
from harness.results.folders import Folders, check_folder
from harness.results.open import load_scale
from harness.results.selection import as_recorded
from harness.verify import rebuild
from harness.verify.shared_run import SharedRun

#: the files of a reference; without a selection of claims the last is not there
MEASURED = ("table.parquet", "curves.parquet", "provenance.json", "stages/selection.json")
JUDGED = ("claims.json", "metrics.json", "looks.json")
FILES = ("card.json", *MEASURED, *JUDGED)


def open_reference(root: Path, paper: str, scale: str, results: Path = REFERENCE) -> SharedRun:
    """The reference of a paper and scale below a results folder of the checkout `root`, with today's spec.

    Raises HarnessError for a folder that holds anything else, and for a card of another paper or scale.
    """
    folders = Folders(results_folder(root / results, paper, scale))
    check_folder(folders.base)
    card = read_card(folders)
    if (card["paper"], card["scale"]) != (paper, scale):
        raise HarnessError(f"{folders.card}: is of {card['paper']!r:.80} at {card['scale']!r:.80}, not of this folder")
    return SharedRun(as_recorded(load_scale(root, paper, scale), folders), folders, card, ())


def differences(reference: SharedRun) -> Iterator[str]:
    """What is not as the card says, and what the code of today judges otherwise: a line for each."""
    yield from altered(reference)
    yield from rebuild.claims(reference)


def altered(reference: SharedRun) -> Iterator[str]:
    """Files that are missing, too many, or not the card's; looks that do not continue the card's."""
    base, card = reference.folders.base, reference.card
    there = {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}
    for name in sorted({*FILES, *there}):
        if name not in there:
            if name in card["files"] or name == "card.json":
                yield f"{base / name}: is missing"
        elif name not in FILES:
            yield f"{base / name}: is no file of a reference"
        elif name in MEASURED and file_sha256(base / name) != card["files"].get(name, {}).get("sha256"):
            yield f"{base / name}: its checksum is not the card's"
    looks = [look.model_dump() for look in read_looks(reference.folders.looks)]
    if looks[: len(card["looks"])] != card["looks"]:
        yield f"{reference.folders.looks}: lacks looks of the card"
