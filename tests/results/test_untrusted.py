"""Results from somebody else's disk: each way in which they can be bad is one clear line."""

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from harness.base import untrusted
from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.base.paths import checkout
from harness.base.untrusted import check_name, check_safetensors, read_checked_json, read_checked_table
from harness.paper.columns import COLUMN_TYPES, LATER_COLUMNS, TABLE_COLUMNS
from harness.report.card import read_card, shared_files
from harness.results.context import Work
from harness.results.folders import check_folder
from harness.results.tables import read_columns
from harness.share import remote
from harness.stages.judging import report_stage
from harness.stages.tickets import open_pack, pack_path
from harness.workflow.locks import LOCK

TYPES = {column: COLUMN_TYPES[column] for column in TABLE_COLUMNS}


def refused(call, *arguments) -> str:
    """The one line of an error."""
    with pytest.raises(HarnessError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def test_a_run_as_it_was_made_is_taken(tiny_run):
    assert check_folder(tiny_run.base) == []
    found = {path.relative_to(tiny_run.base).as_posix() for path in shared_files(tiny_run.base)}
    assert found == {*read_card(tiny_run.folders)["files"], "card.json", "ro-crate-metadata.json"}
    assert {"tickets/lenet/r0.safetensors", "stages/lenet/c0/k5-stability.curves.parquet"} < found


@pytest.mark.parametrize("name", ["../x.json", "/etc/passwd", "a/../../b", "", ".", "a//b", "a/./b", "a\\b", "a\nb", 7])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    assert "not a name of a file in this folder" in refused(check_name, tmp_path, name)


def test_names_that_stay_are_taken(tmp_path):
    assert check_name(tmp_path, "stages/lenet/c0/dense.json") == tmp_path / "stages" / "lenet" / "c0" / "dense.json"


@pytest.mark.parametrize("name", ["../../outside.json", "/etc/passwd", "runs/lenet/r0/x.safetensors", "card.json"])
def test_a_card_that_names_a_file_elsewhere_is_refused(copy, name):
    card = read_json(copy.folders.card)
    card["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    write_json(copy.folders.card, card)
    assert re.search(r"card\.json: files\..*is no file that a run shares", refused(read_card, copy.folders))


@pytest.mark.parametrize("place", ["claims.json", "tickets/lenet/r7.safetensors", "report/figures", "runs/elsewhere"])
def test_links_are_refused_wherever_they_lead(copy, place):
    path = copy.base / place
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/etc/hostname")
    assert f"{place}': is a symbolic link" in refused(check_folder, copy.base)


def in_cache(path: Path, cache: Path, content: bytes | None = None) -> None:
    """Put a file into a DVC cache, as `dvc checkout` with cache.type symlink leaves it; or another content there."""
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    cached = cache / "files" / "md5" / checksum[:2] / checksum[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(path.read_bytes() if content is None else content)
    path.unlink()
    path.symlink_to(cached)


def test_links_into_a_dvc_cache_are_followed_and_checked(copy, tmp_path):
    paths = [path for path in copy.base.rglob("*") if path.is_file()]
    for path in paths:
        in_cache(path, tmp_path / "cache")
    assert check_folder(copy.base) == []
    card = copy.folders.card
    content = card.read_bytes()
    card.unlink()
    card.write_bytes(content)
    in_cache(card, tmp_path / "cache", content + b" ")
    assert "card.json': is a symbolic link" in refused(check_folder, copy.base)


def test_what_other_programs_leave_is_named_and_passed_over(copy):
    names = (".DS_Store", "report/._index.html", "tickets/.nfs00000000012a", "report/Thumbs.db", "claims.json~")
    for name in names:
        (copy.base / name).write_bytes(b"\0anything")
    assert sorted(check_folder(copy.base)) == sorted(names)
    assert not {path.name for path in shared_files(copy.base)} & {"Thumbs.db", "claims.json~"}
    assert not remote._check_strays(copy.folders)
    ignored = subprocess.run(
        [sys.executable, "-m", "dvc", "check-ignore", *names], cwd=checkout(), capture_output=True, text=True
    )
    assert set(ignored.stdout.split()) == set(names)  # DVC hashes and pushes none of them


def test_special_files_are_refused(copy):
    os.mkfifo(copy.base / "report" / "pipe")
    assert "neither a file nor a folder" in refused(check_folder, copy.base)


@pytest.mark.parametrize(
    "name", ["setup.py", "report/.hidden", "stages/lenet/dense.json", "tickets/lenet/r0.pt", "a\nb"]
)
def test_files_that_no_run_has_are_refused(copy, name):
    (copy.base / name).write_text("x")
    assert "no file of a run is called that" in refused(check_folder, copy.base)


def test_folders_far_too_deep_are_refused_and_some_depth_is_taken(tmp_path):
    inner = tmp_path
    for _ in range(30):
        inner = inner / "a"
    inner.mkdir(parents=True)
    (inner / "x").write_text("")
    assert [name for name, _ in untrusted.entries(tmp_path)] == ["a/" * 30 + "x"]
    (inner / "a/a/a/a").mkdir(parents=True)
    assert "more than 32 folders deep" in refused(check_folder, tmp_path)


def test_what_a_run_keeps_to_itself_is_let_be(copy):
    private = ("logs/workflow.log", "state/x.safetensors", "clock.json", LOCK, "report/.index.html.77.part")
    for name in private:
        (copy.base / name).parent.mkdir(exist_ok=True)
        (copy.base / name).write_text("anything")
    assert check_folder(copy.base) == []
    assert len(shared_files(copy.base)) == len(read_card(copy.folders)["files"]) + 2


def test_a_file_far_larger_than_its_card_says_is_not_read(copy):
    with (copy.base / "report" / "index.html").open("ab") as file:
        file.truncate(40 * 2**20)
    assert re.search(r"index\.html: 41,943,040 bytes, but card\.json says \d+\.", refused(check_folder, copy.base))


def safetensors(path: Path, header: object, content: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + content)
    return path


def tensor(shape, start, end, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def test_a_header_that_claims_a_terabyte_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = safetensors(tmp_path / "x.safetensors", {}, length=2**40)
    assert "its header claims 1,099,511,627,776 bytes, the file has 10" in refused(check_safetensors, path)
    path = safetensors(tmp_path / "x.safetensors", {"a": tensor([2**38], 0, 2**40)})
    assert "its tensors take 1,099,511,627,776 bytes, the file has 0 for them" in refused(check_safetensors, path)
    monkeypatch.setattr(untrusted, "LARGEST_HEADER", 64)
    path = safetensors(tmp_path / "x.safetensors", {"__metadata__": {"a": "b" * 100}})
    assert "its header claims" in refused(check_safetensors, path)


@pytest.mark.parametrize(
    ("header", "content", "words"),
    [
        ({"a": tensor([2], 0, 8)}, b"\0" * 7, "its tensors take 8 bytes, the file has 7"),
        ({"a": tensor([3], 0, 8)}, b"\0" * 8, r"of shape \[3\] does not take 8 bytes"),
        ({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"\0" * 4, "'b' starts at byte 0 instead of 4"),
        ({"a": tensor([-2, -1], 0, 8)}, b"\0" * 8, "'a' is described wrongly"),
        ({"a": tensor([2], 0, 8, "pickle")}, b"\0" * 8, "'a' is described wrongly"),
        ({"a": tensor([True], 0, 4)}, b"\0" * 4, "'a' is described wrongly"),
        ({"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4, "'a' is described wrongly"),
        ({"a": 3}, b"", "'a' is described wrongly"),
        ({"__metadata__": {"a": 3}}, b"", "its metadata are not text"),
        ([], b"", "its header is no object"),
        (b'{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": 3}', b"", "a name is duplicated"),
        (b"[" * 5000, b"", "nested too deep"),
        (b"{", b"", "not a safetensors file"),
        (b"\xff\xfe", b"", "not a safetensors file"),
    ],
)
def test_headers_that_cant_be_right_are_refused(tmp_path, header, content, words):
    path = safetensors(tmp_path / "x.safetensors", header, content)
    assert re.search(words, refused(check_safetensors, path))


def test_headers_as_the_library_writes_them_are_taken(tmp_path):
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros(0, dtype=torch.uint8),
        "c": torch.zeros((), dtype=torch.int64),
        "d": torch.zeros(3, dtype=torch.bfloat16),
        "e": torch.ones(5, dtype=torch.bool),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"one": "two"})
    found, metadata = check_safetensors(tmp_path / "x.safetensors")
    assert metadata == {"one": "two"}
    assert {name: shape for name, (_, shape) in found.items()} == {
        name: tuple(value.shape) for name, value in tensors.items()
    }


def changed_pack(tiny_run, path: Path, metadata=None, tensors=None) -> Path:
    """The tiny run's first pack with some of it changed."""
    source = pack_path(tiny_run.folders, "lenet", 0)
    pack = open_pack(source)
    own = pack._tensors(list(pack.names)) | (tensors or {})
    facts = check_safetensors(source)[1] | (metadata or {})
    save_file({name: value for name, value in own.items() if value is not None}, path, metadata=facts)
    return path


@pytest.mark.parametrize(
    ("metadata", "tensors", "words"),
    [
        ({"format": "2"}, {}, "format '2' is unknown to this version"),
        ({"replicate": "x"}, {}, "metadata: replicate"),
        ({"prunable": "[" * 3000}, {}, "metadata: prunable"),
        ({"prunable": '[["output.weight", [1000000000000, 1000000]]]'}, {}, r"its mask \[1000000000000, 1000000\]"),
        ({"prunable": "[]"}, {}, "metadata: prunable: names must be unique and sizes positive"),
        ({"recipe": "{}"}, {}, "metadata: recipe"),
        ({}, {"mask/imp/k0/L1": torch.zeros(6276, dtype=torch.uint8)}, r"is U8 \[6276\], not U8 \[6275\]"),
        ({}, {"mask/imp/k0/L1": torch.zeros(6275)}, r"is F32 \[6275\], not U8"),
        ({}, {"k0/weights/../../x": torch.zeros(1)}, "does not belong in a file of tickets"),
        ({}, {"k0/optimizer/x": torch.zeros(1)}, "does not belong in a file of tickets"),
        ({}, {"k0/weights/output.weight": torch.zeros(10, 100)}, r"has the shape \[10, 100\], its mask \[100, 10\]"),
        ({}, {"k5/weights/output.weight": None}, "tensor k5/weights/output.weight is missing"),
    ],
)
def test_packs_that_cant_be_right_are_refused(tiny_run, tmp_path, metadata, tensors, words):
    path = changed_pack(tiny_run, tmp_path / "r0.safetensors", metadata, tensors)
    assert re.search(words, refused(open_pack, path))


def table_of(tiny_run) -> pd.DataFrame:
    return pd.read_parquet(tiny_run.folders.table)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="k"), r"column k is missing"),
        (lambda table: table.assign(k="x"), r"column k: text instead of whole"),
        (lambda table: table.assign(run=1), r"column run: whole instead of text"),
        (lambda table: table.assign(distance="<b>"), r"column distance: text instead of real"),
        (lambda table: table.assign(run=[[1]] * len(table)), r"column run: list<.*> instead of text"),
        (lambda table: table.assign(run=table["run"].astype("category")), r"column run: dictionary of text instead"),
        (lambda table: table.assign(density=table["density"] > 0), r"column density: bool instead of real"),
    ],
)
def test_tables_with_other_columns_are_refused(tiny_run, tmp_path, change, words):
    path = tmp_path / "table.parquet"
    change(table_of(tiny_run)).to_parquet(path, index=False)
    assert re.search(words, refused(read_checked_table, path, TYPES))


def test_a_table_is_read_as_it_was_written(tiny_run):
    pd.testing.assert_frame_equal(
        read_columns(tiny_run.folders.table, TABLE_COLUMNS), table_of(tiny_run)[list(TABLE_COLUMNS)]
    )


def test_a_table_of_an_earlier_version_has_no_values_in_later_columns(tiny_run, tmp_path):
    path = tmp_path / "table.parquet"
    table_of(tiny_run).drop(columns=list(LATER_COLUMNS)).to_parquet(path)
    table = read_columns(path, TABLE_COLUMNS)
    assert list(table.columns) == list(TABLE_COLUMNS)
    assert table[list(LATER_COLUMNS)].isna().all(axis=None)


def test_a_tables_own_metadata_change_nothing(tiny_run, tmp_path):
    """The writer can name an index and types of its own there."""
    table = pa.Table.from_pandas(table_of(tiny_run).set_index(["k", "run"]))
    pq.write_table(table, tmp_path / "table.parquet")
    found = read_columns(tmp_path / "table.parquet", TABLE_COLUMNS)
    assert list(found.columns) == list(TABLE_COLUMNS)
    assert found.index.equals(pd.RangeIndex(len(table)))


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", b"PAR1" + b"\xff" * 40 + b"\xff\xff\xff\x7fPAR1", None])
def test_what_is_no_parquet_is_refused(tmp_path, content):
    path = tmp_path / "table.parquet"
    if content is not None:
        path.write_bytes(content)
    assert "can't be read" in (message := refused(read_columns, path, TABLE_COLUMNS)) or "missing" in message


def test_a_table_that_would_fill_the_memory_is_not_read(tmp_path, monkeypatch):
    pq.write_table(pa.table({"error": pa.array([0.0] * 100_000)}), tmp_path / "x.parquet", use_dictionary=False)
    monkeypatch.setattr(untrusted, "LARGEST_TABLE", 2**19)
    assert "no table of a run is so large" in refused(read_checked_table, tmp_path / "x.parquet", {"error": "real"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested more than 64 deep"),
        ('{"a":' * 5000, "nested more than 64 deep"),
        ("{", "not valid JSON"),
        ("[NaN]", "not valid JSON"),
        ('{"a": {"b": 1, "b": 2}}', "a name is duplicated"),
        ("[1e5, Infinity]", "not valid JSON"),
        ("[" + "1" * 10_000 + "]", "not valid JSON"),  # an integer that would take minutes to read
    ],
)
def test_json_bombs_are_refused(tmp_path, text, words):
    (tmp_path / "claims.json").write_text(text)
    assert words in refused(read_checked_json, tmp_path / "claims.json")


def test_a_gigabyte_of_json_is_not_read(copy):
    with copy.folders.claims.open("ab") as file:
        file.truncate(2**30)  # takes no room on the disk
    copy.folders.card.unlink()
    assert "claims.json: 1,073,741,824 bytes; no such file of a run has over 67,108,864" in refused(
        check_folder, copy.base
    )


def test_brackets_in_text_are_no_nesting(tmp_path):
    value = {"a": "[" * 1000 + '"' + "{" * 1000, "b": ["\\", '"]['] * 5}
    write_json(tmp_path / "x.json", value)
    assert read_checked_json(tmp_path / "x.json") == value


EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.mark.slow
def test_html_in_labels_is_shown_as_text(copy):
    """Names in the table, in claims and in the record of the run come to the page escaped."""
    table = table_of(copy).assign(experiment=EVIL)
    table["run"] = table["run"].str.replace("lenet", EVIL)
    table.to_parquet(copy.folders.table, index=False)
    curves = pd.read_parquet(copy.folders.all_curves)
    curves.assign(run=EVIL, batch_norm=EVIL).to_parquet(copy.folders.all_curves, index=False)
    claims = read_json(copy.folders.claims)
    for claim in claims:
        claim |= {"title": EVIL, "statement": EVIL, "reason": EVIL, "note": EVIL, "runs": [EVIL]}
    write_json(copy.folders.claims, claims)
    provenance = read_json(copy.folders.provenance)
    provenance |= {"code_revision": EVIL, "packages": {EVIL: EVIL}, "hardware": {**provenance["hardware"], "cpu": EVIL}}
    for place, stage in enumerate(provenance["stages"]):
        stage |= {"experiment": EVIL, "kind": EVIL, "image": f"{EVIL}{place}"}
    write_json(copy.folders.provenance, provenance)
    check_folder(copy.base)
    report_stage(Work(copy.context.spec, copy.folders, "report"))
    page = (copy.folders.report / "index.html").read_text()
    assert "&lt;script&gt;alert" in page
    for raw in ("<script", "<img", EVIL):
        assert raw not in page
        assert raw not in (copy.folders.report / "report.md").read_text()
