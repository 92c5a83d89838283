"""Small files that take much memory or much time to read: refused, or read in proportion to their size."""

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.base import untrusted
from harness.base.untrusted import read_checked_table
from harness.paper.columns import TABLE_COLUMNS
from harness.results.tables import read_columns
from tests.results.test_untrusted import refused


def repeated(path: Path, groups: int, rows: int, value: object) -> Path:
    """A file of groups of equal rows, a few bytes each: one value, and numbers that point at it."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))
    table = pa.table({"a": column, "b": column})
    with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False) as file:
        for _ in range(groups):
            file.write_table(table)
    assert path.stat().st_size < 2**20
    return path


def test_a_small_file_of_many_rows_is_not_read(tmp_path, monkeypatch):
    """What its column takes in the file, encoded, is far less than in memory."""
    path = repeated(tmp_path / "x.parquet", 10, 100_000, 0.5)
    monkeypatch.setattr(untrusted, "LARGEST_TABLE", 2**23)
    monkeypatch.setattr(untrusted, "_read", None)
    message = refused(read_checked_table, path, {"a": "real", "b": "real"})
    assert "1,000,000 rows, 16,000,000 bytes in memory: no table" in message


def test_a_small_file_of_long_texts_is_refused_and_one_of_short_texts_is_read(tmp_path):
    path = repeated(tmp_path / "x.parquet", 2, 100_000, "x" * 2**20)
    message = refused(read_checked_table, path, {"a": "text"})
    rows = untrusted.BATCH_ROWS  # the first batch is too much
    assert f"{rows:,} rows, {rows * (2**20 + 8):,} bytes in memory: no table" in message
    path = repeated(tmp_path / "x.parquet", 2, 100_000, "word")
    assert read_checked_table(path, {"a": "text"})["a"].tolist() == ["word"] * 200_000


@pytest.mark.parametrize("error", [pa.ArrowInvalid("broken page"), pa.ArrowMemoryError("too much"), MemoryError()])
def test_a_table_that_breaks_while_it_is_read_is_one_line(tiny_run, monkeypatch, error):
    def read(*_, **__):
        raise error

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", read)
    assert "table.parquet: can't be read" in refused(read_columns, tiny_run.folders.table, TABLE_COLUMNS)


def depth(value: object) -> int:
    """Levels of a JSON value, by walking it."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@pytest.mark.parametrize(
    "value",
    [[], {}, 3, "[", [[], {"a": [{"[{": "}\\"}]}, "\\\\", {'"': "[\n["}], {"\\": [[["]"]]]}, ["\\", ['"]['] * 5]],
)
def test_levels_are_counted_as_the_parser_sees_them(value):
    for text in (json.dumps(value), json.dumps(value, indent=3, ensure_ascii=False)):
        assert untrusted._depth(text) == depth(value)


def test_counting_levels_takes_time_in_proportion_to_the_text_whatever_is_in_it():
    """Seconds even on a slow machine; looking twice at each rest of a text would take hours."""
    began = time.monotonic()
    for text in ('"' + '\\"' * 2**20, '"' + "\\" * 2**20, '"' * (2**20 + 1), '"' + "x" * 2**22 + '"', "[]" * 2**19):
        assert untrusted._depth(text) in (0, 1)
    assert time.monotonic() - began < 20


def test_a_footer_that_claims_fewer_rows_than_come_is_refused_as_they_come(tmp_path, monkeypatch):
    path = repeated(tmp_path / "x.parquet", 10, 100_000, 0.5)
    monkeypatch.setattr(untrusted, "LARGEST_TABLE", 2**23)
    check = untrusted._check_memory
    sizes: list[int] = []

    def check_batches(path: Path, rows: int, size: int) -> None:
        sizes.append(size)
        if len(sizes) > 2:  # as if the footer had passed
            check(path, rows, size)

    monkeypatch.setattr(untrusted, "_check_memory", check_batches)
    assert "bytes in memory: no table" in refused(read_checked_table, path, {"a": "real", "b": "real"})
    assert max(sizes[2:]) <= 2**23 + 16 * untrusted.BATCH_ROWS
