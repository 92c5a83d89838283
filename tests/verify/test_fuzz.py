"""Verify on runs with a mutated file, seeded: it never ends in a traceback, and finds what the card doesn't name."""

import io
import json
import random

import pytest
from rich.console import Console

from harness.verify.verify import verify
from tests.results.test_fuzz import bounded, mutated
from tests.tiny import TinyRun
from tests.verify.test_forged import shared_of


@pytest.mark.parametrize("inputs", [3, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.long])])
@pytest.mark.parametrize("forged", [False, True])
def test_a_mutated_file_is_a_difference_or_changes_nothing(copy: TinyRun, monkeypatch, inputs, forged):
    """`forged`: the card names the altered file, as whoever alters a run on purpose makes it."""
    monkeypatch.setattr("harness.verify.rebuild.page", lambda shared: iter(()))  # the page of these runs is a stand-in
    draw = random.Random(8)
    named = [*sorted(json.loads(copy.folders.card.read_text())["files"]), copy.folders.crate.name]
    for number in range(inputs):
        name = draw.choice(named)
        path, card = copy.base / name, copy.folders.card.read_bytes()
        content = path.read_bytes()
        path.write_bytes(mutated(content, draw))
        altered = path.read_bytes() != content
        if forged:
            copy.forge_card(path)
        stream, fine = io.StringIO(), True
        with bounded(f"input {number}, {name}"):
            fine = verify(shared_of(copy), 0, 0, Console(file=stream, width=200)).fine
        assert forged or not (altered and fine), (number, name, stream.getvalue())
        path.write_bytes(content)
        copy.folders.card.write_bytes(card)
