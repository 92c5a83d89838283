"""Data sets by name: shape, size, the function that makes the arrays, and the pinned checksum."""

from collections.abc import Mapping
from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.data.base import DataSet, check_content, content_as_read, fix, in_memory, load_arrays, store
from harness.data.images import open_images
from harness.data.pictures import own_pictures
from harness.data.sets import SOURCES
from harness.data.source import Source
from harness.paper.models import Pictures

__all__ = ["SOURCES", "DataSet", "Source", "checksum", "content", "load", "prepare", "require", "source_of"]


NONE: Mapping[str, Pictures] = {}  # no data sets of one's own


def source_of(name: str, own: Mapping[str, Pictures] = NONE) -> Source:
    """The source of a data set, one of a scale's `own` or one that the project has.

    Raises HarnessError for an unknown name, and for pictures that are not pinned and can't be read.
    """
    if name in own:
        return own_pictures(name, own[name])
    if name not in SOURCES:
        raise HarnessError(f"data set {name!r} is unknown: choose one of {', '.join((*own, *SOURCES))}")
    return SOURCES[name]


def checksum(name: str, own: Mapping[str, Pictures] = NONE) -> str:
    """The pinned checksum of a data set, known before it is prepared. Raises HarnessError as `source_of`."""
    return source_of(name, own).checksum


def require(name: str, own: Mapping[str, Pictures] = NONE) -> None:
    """Raise HarnessError, with the fix, if files are missing that can't be downloaded. Quick: it opens none."""
    check = source_of(name, own).require
    if check:
        check()


def prepare(name: str, record: Path, own: Mapping[str, Pictures] = NONE) -> None:
    """Make a data set and store it beside `record`.

    Raises HarnessError for an unknown name, for other content than the pinned one, and for files that are missing or
    can't be read.
    """
    source = source_of(name, own)
    arrays = source.make()
    if source.generated:
        check_content(name, arrays, source.checksum)
    details = {"name": name, "classes": source.classes, "checksum": source.checksum}
    scaling = {str(part): arrays[part].tolist() for part in ("mean", "std") if part in arrays}
    store(arrays, record, {**details, **scaling, **source.details, **source.provenance()})
    write_json(record, {**read_json(record), "as_read": content_as_read(load(record))})


def content(record: Path) -> str:
    """Digest of a prepared data set as training sees it. Raises HarnessError for a missing or broken record."""
    details = read_json(record)
    if not isinstance(details, dict) or not isinstance(details.get("as_read"), str):
        raise HarnessError(f"{record}: field as_read is missing. {fix(record)}")
    return str(details["as_read"])


def load(record: Path) -> DataSet:
    """Read a stored data set. Raises HarnessError for a missing, broken or altered file."""
    details, arrays = load_arrays(record)
    return open_images(details, arrays, record) if "folder" in details else in_memory(details, arrays)
