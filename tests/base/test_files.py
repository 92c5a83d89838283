"""Files and hashes: nothing half written, stable hashes, errors of the disk in one line."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from harness.base import files
from harness.base.errors import HarnessError
from harness.base.files import canonical_json, digest, file_sha256, read_json, write_atomically, write_json, write_text
from harness.paper.load import dump
from harness.paper.models import Pruning, Recipe

ROOT = str(Path(files.__file__).parents[2])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_there_alone_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    write_text(path, "Grüße\n")
    assert path.read_bytes() == "Grüße\n".encode()
    assert names(path.parent) == ["x.txt"]
    write_text(path, "second")
    assert path.read_text() == "second"


def test_every_file_has_the_mode_of_the_umask(tmp_path):
    """Whichever library writes it: safetensors alone would make files that only their owner can read."""
    code = (
        "import os; os.umask(0o027)\n"
        "from pathlib import Path; import numpy as np; from safetensors.numpy import save_file\n"
        "from harness.base.files import write_atomically, write_json\n"
        "write_json(Path('x.json'), 1)\n"
        "write_atomically(Path('x.safetensors'), lambda path: save_file({'a': np.zeros(2)}, path))\n"
        "write_atomically(Path('linked'), lambda path: os.link('shared', path))\n"
    )
    (tmp_path / "shared").touch(0o600)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": ROOT})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"x.json": 0o640, "x.safetensors": 0o640, "linked": 0o600, "shared": 0o600}


def test_a_failing_writer_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def half(temporary):
        temporary.write_text("half a fi")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_atomically(path, half)
    assert names(tmp_path) == ["x.json"]
    assert json.loads(path.read_text()) == {"old": 1}


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    seen = []

    def slow(temporary):
        assert temporary.parent == path.parent  # a rename across file systems is not atomic
        temporary.write_text("ne")
        seen.append(path.read_text())
        temporary.write_text("new")

    write_atomically(path, slow)
    assert seen == ["old"]
    assert path.read_text() == "new"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_and_the_old_file_stays(tmp_path, value):
    path = tmp_path / "x.json"
    write_json(path, {"accuracy": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"accuracy": [value]})
    with pytest.raises(ValueError, match="JSON"):
        digest({"accuracy": value})
    assert read_json(path) == {"accuracy": 1.0}
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        *((number, "Free some space and run again") for number in (errno.ENOSPC, errno.EDQUOT)),
        (errno.EFBIG, "Raise the limit of a file's size"),
        *((number, "Ask its owner for access, or give a folder of your own") for number in (errno.EACCES, errno.EROFS)),
    ],
)
@pytest.mark.parametrize("where", ["writer", "fsync", "rename", "folder"])
def test_a_full_or_closed_disk_is_one_line_with_the_fix(tmp_path, monkeypatch, number, fix, where):
    path = tmp_path / "deep" / "x.json"
    write_json(path, 1)

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    if where == "writer":
        monkeypatch.setattr(Path, "write_text", fail)
    if where == "fsync":
        monkeypatch.setattr(files.os, "fsync", fail)
    if where == "rename":
        monkeypatch.setattr(Path, "replace", fail)
    if where == "folder":
        monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(HarnessError, match=r"deep/x\.json: can't be written .*" + fix) as caught:
        write_json(path, 2)
    assert os.strerror(number) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(path.parent) == ["x.json"]
    assert read_json(path) == 1


def test_a_full_disk_that_safetensors_reports_is_the_same_line(tmp_path):
    def fail(temporary):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(HarnessError, match=r"can't be written .*No space left"):
        write_atomically(tmp_path / "x.safetensors", fail)
    with pytest.raises(SafetensorError):
        write_atomically(tmp_path / "x.safetensors", lambda _: (_ for _ in ()).throw(SafetensorError("a wrong dtype")))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_disk_that_is_really_full(tmp_path):
    def onto_the_full_device(_):
        with Path("/dev/full").open("w") as file:
            file.write("x")

    with pytest.raises(HarnessError, match="No space left"):
        write_atomically(tmp_path / "x", onto_the_full_device)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(HarnessError, match=r"gone\.json: missing\. Run `harness reproduce` again"):
        read_json(tmp_path / "gone.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"{'a': 1}"])
def test_a_broken_file_is_named_with_the_fix(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=r"x\.json: not valid JSON .*Delete it and run") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_folder_in_a_files_place_is_named_with_the_reason(tmp_path):
    (tmp_path / "x.json").mkdir()
    for attempt in (read_json, lambda path: write_json(path, 1)):
        with pytest.raises(HarnessError, match=r"x\.json: .*[Ii]s a directory"):
            attempt(tmp_path / "x.json")
    assert names(tmp_path) == ["x.json"]


def test_json_that_is_written_is_read_back(tmp_path):
    value = {"b": [1, 2.5, None, True], "a": {"ü": 0.1 + 0.2}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


def test_one_text_for_one_value():
    assert canonical_json({"b": 1, "a": [1, 2.0]}) == '{"a":[1,2.0],"b":1}'
    assert canonical_json({"b": (1,), "a": 2}) == canonical_json({"a": 2, "b": [1]})
    assert digest({"a": 1}) != digest({"a": 1.0})
    assert digest({"a": "1"}) != digest({"a": 1})
    assert digest([["a"], "b"]) != digest(["a", ["b"]])


# made with `printf TEXT | sha256sum`: stored runs are found again by these hashes, so they may never change
PINNED = [
    ({}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    (
        {"b": {"y": 1e-5, "x": "ü"}, "a": (1, 2.5, True, None)},
        "09a44f7270af50c11f111dcfb322471b3e90d2618bd38f95adffd61c919b6f45",
    ),
]


@pytest.mark.parametrize(("value", "expected"), PINNED)
def test_hashes_are_pinned(value, expected):
    assert digest(value) == expected


def test_the_hash_of_a_stored_recipe_is_pinned_and_it_can_be_read_back():
    """A field added to Recipe changes this hash, and so makes every stored run stale: only ever on purpose."""
    recipe = Recipe(
        optimizer="momentum",
        learning_rate=0.03,
        momentum=0.9,
        weight_decay=1e-4,
        batch_size=60,
        steps=30000,
        drops=(20000, 25000),
    )
    assert digest(dump(recipe)) == "6da8924c9321905acf9a1a4d9b3de3a3aa49b1d39ddc03f317a5514581da294e"
    assert Recipe.model_validate(json.loads(canonical_json(dump(recipe)))) == recipe
    pruning = Pruning(fraction=0.36)
    assert canonical_json(dump(pruning)) == (
        '{"criterion":"magnitude","densities":[],"fraction":0.36,"snip_batches":1,"style":"iterative"}'
    )
    assert Pruning.model_validate(json.loads(canonical_json(dump(pruning)))) == pruning


def test_a_files_hash_is_that_of_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
