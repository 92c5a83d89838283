"""Somebody's names and titles do nothing to the terminal: no control character of theirs is printed."""

import sys
import unicodedata

from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from harness import cli
from harness.errors import HarnessError
from harness.files import read_json, write_json
from harness.report import verdict_table
from harness.report.formats import clean
from harness.share.tickets import pack_path
from harness.share.untrusted import check_safetensors
from tests.share.test_compare import run_command, worse, write_run

# a title of the window, a colour, the same by the one-character code, a bell
EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b31m\x7f"
SHOWN = "]0;owned[31mred31m"


def printed(text: str) -> str:
    assert not [one for one in text if not one.isprintable() and one != "\n"]
    return text


def test_every_control_character_is_dropped_or_a_space_and_no_letter_is():
    for one in map(chr, range(0x180)):
        if unicodedata.category(one) == "Cc":
            assert clean(f"a{one}b") in ("ab", "a b")
        elif not one.isspace():
            assert clean(f"a{one}b") == f"a{one}b"


def test_claims(capsys):
    part = {"verdict": "supported", "statistic": "mean", "measure": EVIL, "name": EVIL}
    claim = {"id": EVIL, "title": EVIL, "verdict": "supported", "replicates": EVIL, "parts": [part]}
    cli._console().print(verdict_table([claim]))
    assert printed(capsys.readouterr().out).count(SHOWN) == 3


def test_ticket_list(copy, monkeypatch):
    for replicate in range(2):
        path = pack_path(copy.folders, "lenet", replicate)
        facts = {**check_safetensors(path)[1], "network": EVIL, "data": EVIL, "experiment": EVIL}
        save_file(load_file(path), path, metadata=facts)
    monkeypatch.setattr(cli, "_spec", lambda *_: copy.context.spec)
    monkeypatch.setattr(cli, "_folders", lambda *_: copy.folders)
    done = CliRunner().invoke(cli.app, ["ticket", "list"])
    assert done.exit_code == 0, done.output
    assert SHOWN in printed(done.output)


def test_compare(tmp_path):
    one, other = write_run(tmp_path / "a"), write_run(tmp_path / "b", 0, worse)
    for base in (one, other):
        claims = read_json(base / "claims.json")
        for claim in claims:
            claim |= {"id": claim["id"] + EVIL, "title": EVIL}
        extra = {**claims[0], "id": f"{base.name}{EVIL}"}  # listed as in one run alone
        write_json(base / "claims.json", [*claims, extra])
        write_json(base / "provenance.json", {**read_json(base / "provenance.json"), "code_revision": EVIL})
    status, out = run_command(str(one), str(other), "--out", str(tmp_path))
    assert status == 0
    assert SHOWN in printed(out)


def test_errors(monkeypatch, capsys):
    def app():
        raise HarnessError(f"x.json: {EVIL}: wrong\nsecond line")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "exit", lambda _: None)
    cli.main()
    assert printed(capsys.readouterr().err) == f"error: x.json: {SHOWN}: wrong\nsecond line\n"
