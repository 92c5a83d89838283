"""Checks of files that others wrote, before they are used: names, sizes, headers, types."""

import hashlib
import json
import math
import re
import stat
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from harness.base.errors import HarnessError, system_error

if TYPE_CHECKING:
    import pandas as pd

LARGEST_JSON = 64 * 2**20  # bytes; the files of the largest scale take a tenth of it
LARGEST_HEADER = 16 * 2**20  # bytes of a safetensors header
LARGEST_TABLE = 2**30  # bytes of a table in memory; one of a million rows takes under half of it
# files that systems and editors leave in any folder: macOS, Windows, NFS, editors' backups and swap files
LEFTOVERS = re.compile(r"\.DS_Store|\._.*|\.nfs[0-9a-f]+|Thumbs\.db|desktop\.ini|.*~|\..*\.sw[a-p]", re.DOTALL)
CACHED = re.compile(r"/files/md5/([0-9a-f]{2})/([0-9a-f]{30})$")  # the path of a content in a DVC cache
BATCH_ROWS = 2**16  # rows of a table that are read at once
DEEPEST = 64  # levels of a JSON file
DEEPEST_FOLDER = 32  # levels of folders

# possessive quantifiers, and a string may lack its end: the time is linear in any text
BRACKETS = re.compile(r'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"?)*+([\[\]{}]*)', re.DOTALL)

BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


def check_name(base: Path, name: object) -> Path:
    """`base/name`, if the name is a plain relative path. Raises HarnessError for any other name."""
    text = str(name)
    path = PurePosixPath(text)
    is_relative = isinstance(name, str) and text.isprintable() and "\\" not in text and path.as_posix() == text
    if not is_relative or path.is_absolute() or ".." in path.parts or text in ("", "."):
        raise HarnessError(f"{base}: {text!r:.200}: not a name of a file in this folder. Don't use these results")
    return base / path


def entries(base: Path) -> Iterator[tuple[str, Path]]:
    """The files of `walk` without what other programs leave (`LEFTOVERS`)."""
    return ((name, path) for name, path in walk(base) if not LEFTOVERS.fullmatch(path.name))


def walk(base: Path, depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Every file below a folder with its relative name, in order.

    A link into a DVC cache is a file, if the content there has the checksum that it is named after.
    Raises HarnessError for other links and special files that are not named as `LEFTOVERS`, and for folders nested
    more than DEEPEST_FOLDER deep.
    """
    if depth > DEEPEST_FOLDER:
        raise HarnessError(f"{str(base)!r:.300}: more than {DEEPEST_FOLDER} folders deep. Don't use these results")
    try:
        paths = sorted(base.iterdir())
    except OSError as error:
        raise HarnessError(f"{base}: can't be read ({error.strerror}). Give the folder of a run") from None
    for path in paths:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from ((f"{path.name}/{name}", below) for name, below in walk(path, depth + 1))
        elif LEFTOVERS.fullmatch(path.name) or stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and _in_dvc_cache(path)):
            yield path.name, path
        else:
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise HarnessError(f"{str(path)!r:.300}: is {kind}. Don't use these results")


def _in_dvc_cache(link: Path) -> bool:
    """Whether a link leads to a file in a DVC cache that has the MD5 checksum in its path there."""
    try:
        target = link.resolve(strict=True)
        match = CACHED.search(target.as_posix())
        if not match or not target.is_file():
            return False
        with target.open("rb") as file:
            return (
                hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == match[1] + match[2]
            )
    except OSError:
        return False


def read_checked_json(path: Path, largest: int = LARGEST_JSON) -> Any:
    """Read JSON of at most `largest` bytes and DEEPEST levels. Raises HarnessError otherwise, and for a broken file."""
    try:
        if path.stat().st_size > largest:
            raise HarnessError(f"{path}: {path.stat().st_size:,} bytes; no such file of a run has over {largest:,}")
        text = path.read_text(encoding="utf-8")
        if _depth(text) > DEEPEST:
            raise HarnessError(f"{path}: nested more than {DEEPEST} deep; no file of a run is")
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. Pull it again, or make it with `harness reproduce`") from None
    except OSError as error:
        raise system_error(error, path) from None
    except ValueError as error:
        raise HarnessError(f"{path}: not valid JSON ({error!s:.100}). Pull it again") from None


def _depth(text: str) -> int:
    """Nesting depth of the brackets outside strings; counting stops beyond DEEPEST."""
    deepest = depth = 0
    for run in BRACKETS.finditer(text):
        for bracket in run[1]:
            depth += 1 if bracket in "[{" else -1
            if depth > DEEPEST:
                return depth
            deepest = max(deepest, depth)
    return deepest


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def check_safetensors(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """Names, types and shapes of a file's tensors, and its metadata, from its header alone.

    Raises HarnessError for a header that promises what the file can't hold, before anything is allocated.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
            if length > min(size - 8, LARGEST_HEADER):
                raise ValueError(f"its header claims {length:,} bytes, the file has {size:,}")
            text = file.read(length).decode("utf-8")
        if _depth(text) > 3:
            raise ValueError("its header is nested too deep")
        header = json.loads(text, object_pairs_hook=_once)
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not text")
        spans = sorted((*_span(name, entry), name) for name, entry in header.items())
        position = 0
        for start, end, name in spans:
            if start != position:
                raise ValueError(f"tensor {name!r:.80} starts at byte {start:,} instead of {position:,}")
            position = end
        if position != size - 8 - length:
            raise ValueError(f"its tensors take {position:,} bytes, the file has {size - 8 - length:,} for them")
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. Pull it again, or make it with `harness reproduce`") from None
    except OSError as error:
        raise system_error(error, path) from None
    except ValueError as error:
        raise HarnessError(f"{path}: not a safetensors file: {error!s:.200}. Pull it again") from None
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}, metadata


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is duplicated")
    return value


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Start and end offset of a tensor in bytes. Raises ValueError if its type, shape and offsets disagree."""
    if not _is_valid(entry):
        raise ValueError(f"tensor {name!r:.80} is described wrongly")
    start, end = entry["data_offsets"]
    if end - start != math.prod(entry["shape"]) * BYTES[entry["dtype"]]:
        raise ValueError(f"tensor {name!r:.80} of shape {entry['shape']!s:.80} does not take {end - start:,} bytes")
    return start, end


def _is_valid(entry: Any) -> bool:
    """Whether a header's entry has a known type, a shape and two offsets, all of them whole numbers of 0 or more."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return False
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in BYTES or not isinstance(shape, list) or not isinstance(offsets, list):
        return False
    return len(offsets) == 2 and all(type(number) is int and number >= 0 for number in (*shape, *offsets))


def read_checked_table(path: Path, columns: Mapping[str, str], optional: Collection[str] = ()) -> "pd.DataFrame":
    """A Parquet table of these columns, each "text", "whole" or "real". An `optional` one that it lacks has no values.

    Raises HarnessError for a file that is no Parquet, lacks a column, has one of another type, or is far too large.
    """
    file = open_parquet(path)
    kinds = {field.name: _kind(field.type) for field in file.schema_arrow}
    present = [name for name in columns if name in kinds or name not in optional]
    for name in present:
        kind = columns[name]
        if name not in kinds:
            raise HarnessError(f"{path}: column {name} is missing. Delete it and run `harness reproduce` again.")
        if kinds[name] not in ("nothing", kind) and (kinds[name], kind) != ("whole", "real"):
            raise HarnessError(f"{path}: column {name}: {kinds[name]} instead of {kind}. Pull it again")
    _check_memory(path, rows := file.metadata.num_rows, 8 * rows * len(columns))
    return _read(path, present, [name for name in present if kinds[name] == "text"]).reindex(columns=list(columns))


def _read(path: Path, columns: list[str], text: list[str]) -> "pd.DataFrame":
    """Read columns in batches, and stop where they would fill the memory, whatever the footer says of their sizes.

    Text is first read dictionary-encoded and measured: one long value may fill every row.
    """
    from pyarrow import ArrowException, Table, compute

    try:
        file, batches = _open(path, read_dictionary=text), []
        rows = size = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            coded = [batch.column(name) for name in text]
            lengths = [compute.sum(compute.binary_length(part.dictionary).take(part.indices)).as_py() for part in coded]
            rows += batch.num_rows
            size += 8 * batch.num_rows * len(columns) + sum(length or 0 for length in lengths)
            _check_memory(path, rows, size)
            batches.append(batch)
        table = Table.from_batches(batches) if batches else file.schema_arrow.empty_table().select(columns)
        for name in text:
            kind = table[name].type.value_type
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
        # without the file's pandas metadata, which could name other types and indexes
        return table.select(columns).replace_schema_metadata(None).to_pandas()
    except (OSError, ValueError, KeyError, MemoryError, ArrowException) as error:
        raise _unreadable(path, error) from None


def _kind(kind: Any) -> str:
    """A column's type: "text", "whole", "real", "nothing", or Arrow's name of any other."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return f"dictionary of {_kind(kind.value_type)}"
    for word, tests in (
        ("text", (types.is_string, types.is_large_string, types.is_string_view)),
        ("whole", (types.is_integer,)),
        ("real", (types.is_floating,)),
        ("nothing", (types.is_null,)),
    ):
        if any(test(kind) for test in tests):
            return word
    return str(kind)


def open_parquet(path: Path) -> Any:
    """An open Parquet file whose table fits into memory, judged by the sizes in its footer.

    It asks for no column's metadata: Arrow ends the process where those are damaged.
    """
    from pyarrow import ArrowException

    try:
        file = _open(path)
        size = sum(file.metadata.row_group(at).total_byte_size for at in range(file.metadata.num_row_groups))
        _check_memory(path, rows := file.metadata.num_rows, max(size, 8 * rows))
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing. Run `harness reproduce` first.") from None
    except (OSError, ValueError, MemoryError, ArrowException) as error:
        raise _unreadable(path, error) from None
    return file


def _open(path: Path, **options: Any) -> Any:
    from pyarrow.parquet import ParquetFile

    limits = {"thrift_string_size_limit": LARGEST_HEADER, "thrift_container_size_limit": 10**6}
    return ParquetFile(path, **limits, **options)


def _check_memory(path: Path, rows: int, size: int) -> None:
    """Raise HarnessError for a table that takes more than LARGEST_TABLE in memory."""
    if size > LARGEST_TABLE:
        raise HarnessError(f"{path}: {rows:,} rows, {size:,} bytes in memory: no table of a run is so large")


def _unreadable(path: Path, error: BaseException) -> HarnessError:
    if isinstance(error, OSError) and error.errno:  # Arrow tells damage as an OSError without a number
        return system_error(error, path)
    first = (str(error).splitlines() or [""])[0]
    return HarnessError(f"{path}: can't be read ({first:.200}). Delete it and run `harness reproduce` again.")
