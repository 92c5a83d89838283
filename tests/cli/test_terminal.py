"""Untrusted names and titles have no effect on the terminal: none of their control characters is printed."""

import sys
import unicodedata

from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.base.untrusted import check_safetensors
from harness.base.words import clean
from harness.claims.document import read_claims
from harness.cli import app as cli
from harness.cli import options
from harness.report import verdict_table
from harness.stages.tickets import pack_path
from tests.claims.tables import DIFFERENCE, GOOD, judged
from tests.compare.test_compare import run_command, worse, write_run

# a title of the window, a colour, the same by the one-character code, a bell
EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b31m\x7f"
SHOWN = "]0;owned[31mred31m"


def printed(text: str) -> str:
    assert not [character for character in text if not character.isprintable() and character != "\n"]
    return text


def test_every_control_character_is_dropped_or_a_space_and_no_letter_is():
    for character in map(chr, range(0x180)):
        if unicodedata.category(character) == "Cc":
            assert clean(f"a{character}b") in ("ab", "a b")
        elif not character.isspace():
            assert clean(f"a{character}b") == f"a{character}b"


def test_claims(capsys):
    claim = judged(GOOD, DIFFERENCE | {"name": EVIL}, title=EVIL)
    options.console().print(verdict_table([claim]))
    assert printed(capsys.readouterr().out).count(SHOWN) == 1


def test_an_undecided_claim_says_what_it_needs(capsys):
    claim = judged(GOOD, DIFFERENCE | {"region": [None, 0.0]})
    assert (claim.verdict, claim.needed) == ("inconclusive", None)
    options.console().print(verdict_table([claim, claim.model_copy(update={"id": "C2", "needed": 1200})]))
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] in (["C1"], ["C2"])]
    assert first.split()[-1] == "never"
    assert second.rstrip().endswith("about 1,200")


def test_a_claims_hostile_id_is_refused_and_shown_as_text(tmp_path, monkeypatch, capsys):
    path = tmp_path / "claims.json"
    write_json(path, [judged(GOOD, DIFFERENCE).model_dump(mode="json") | {"id": EVIL}])
    monkeypatch.setattr(cli, "app", lambda: read_claims(path))
    monkeypatch.setattr(sys, "exit", lambda _: None)
    cli.main()
    assert "claim 1: id: " in printed(capsys.readouterr().err)


def test_ticket_list(copy, monkeypatch):
    for replicate in range(2):
        path = pack_path(copy.folders, "lenet", replicate)
        metadata = {**check_safetensors(path)[1], "network": EVIL, "data": EVIL, "experiment": EVIL}
        save_file(load_file(path), path, metadata=metadata)
        copy.forge_card(path)
    monkeypatch.setattr(options, "scale_of", lambda *_: copy.context.spec)
    monkeypatch.setattr(options, "folders_of", lambda *_: copy.folders)
    result = CliRunner().invoke(cli.app, ["ticket", "list"])
    assert result.exit_code == 0, result.output
    assert SHOWN in printed(result.output)


def test_compare(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b", 0, worse)
    for base in (a, b):
        claims = read_json(base / "claims.json")
        for claim in claims:
            claim |= {"title": EVIL}
        extra = {**claims[0], "id": f"C99{base.name}"}  # only one run has this claim
        write_json(base / "claims.json", [*claims, extra])
        write_json(base / "provenance.json", {**read_json(base / "provenance.json"), "code_revision": EVIL})
    status, out = run_command(str(a), str(b), "--out", str(tmp_path))
    assert status == 0
    assert SHOWN in printed(out)


def test_errors(monkeypatch, capsys):
    def app():
        raise HarnessError(f"x.json: {EVIL}: wrong\nsecond line")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "exit", lambda _: None)
    cli.main()
    assert printed(capsys.readouterr().err) == f"error: x.json: {SHOWN}: wrong\nsecond line\n"
