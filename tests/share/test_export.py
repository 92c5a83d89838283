"""Exports from a forged pack, and into a folder that already has files."""

import pytest
from safetensors.torch import load_file, save_file

from harness.base.errors import HarnessError
from harness.base.untrusted import check_safetensors
from harness.share import plain_torch
from harness.share.export import export, load_ticket
from harness.stages.tickets import pack_path


@pytest.mark.parametrize(
    "change",
    [
        {"input_shape": "[1000000, 100000]"},
        {"input_shape": "[-4]"},
        {"input_shape": "[]"},
        {"classes": "1000000000000"},
        {"classes": "0"},
        {"data": "mnist"},
        {"data": "no such set"},
    ],
)
def test_a_network_that_its_data_set_cant_have_is_not_built(copy, tmp_path, monkeypatch, change):
    path = pack_path(copy.folders, "lenet", 0)
    metadata = {**check_safetensors(path)[1], **change}
    save_file(load_file(path), path, metadata=metadata)
    copy.forge_card(path)
    monkeypatch.setattr(plain_torch, "build", None)
    with pytest.raises(
        HarnessError, match=r"r0\.safetensors: input_shape, classes: .*: not those of data set"
    ) as caught:
        export(copy.context.spec, copy.folders, "lenet", 0, 5, 2, "imp", tmp_path / "none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["README.md", "ticket.safetensors"])
def test_an_export_replaces_an_earlier_one_and_nothing_else(tiny_run, tmp_path, name):
    def make(level: int) -> None:
        export(tiny_run.context.spec, tiny_run.folders, "lenet", 0, 5, level, "imp", tmp_path)

    mine = tmp_path / name
    for content in (b"# My project\n", b"\x08\0\0\0\0\0\0\0{}      "):
        mine.write_bytes(content)
        with pytest.raises(HarnessError, match=rf"has a {name} that is no earlier export of a ticket\. Give another"):
            make(1)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, content)]
    mine.unlink()
    (tmp_path / "notes.txt").write_text("mine")
    for level in (1, 2):
        make(level)
        assert load_ticket(tmp_path).origin["level"] == level
    before = (tmp_path / "ticket.safetensors").read_bytes()
    (tmp_path / "README.md").write_text("# My project\n")  # written after the export
    with pytest.raises(HarnessError, match="no earlier export"):
        make(1)
    assert (tmp_path / "ticket.safetensors").read_bytes() == before
    assert (tmp_path / "notes.txt").read_text() == "mine"
