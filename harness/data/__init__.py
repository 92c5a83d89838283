"""Data sets by name: shape, size, the function that makes the arrays, and the pinned checksum."""

from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.data.base import DataSet, check_content, content_as_read, fix, in_memory, load_arrays, store
from harness.data.images import open_images
from harness.data.sets import SOURCES
from harness.data.source import Source

__all__ = ["SOURCES", "DataSet", "Source", "checksum", "content", "load", "prepare", "require", "source_of"]


def source_of(name: str) -> Source:
    """The source of a data set. Raises HarnessError for an unknown name."""
    if name not in SOURCES:
        raise HarnessError(f"data set {name!r} is unknown: choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def checksum(name: str) -> str:
    """The pinned checksum of a data set, known before it is prepared. Raises HarnessError for an unknown name."""
    return source_of(name).checksum


def require(name: str) -> None:
    """Raise HarnessError, with the fix, if files are missing that can't be downloaded. Quick: it opens none."""
    check = source_of(name).require
    if check:
        check()


def prepare(name: str, record: Path) -> None:
    """Make a data set and store it beside `record`.

    Raises HarnessError for an unknown name, for other content than the pinned one, and for files that are missing or
    can't be read.
    """
    source = source_of(name)
    arrays = source.make()
    if source.generated:
        check_content(name, arrays, source.checksum)
    details = {"name": name, "classes": source.classes, "checksum": source.checksum}
    store(arrays, record, {**details, **source.details, **source.provenance()})
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
