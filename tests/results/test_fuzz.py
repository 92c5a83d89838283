"""Mutated files of a run, seeded: every reader and command takes them or refuses them in one line."""

import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.base.errors import HarnessError
from harness.base.untrusted import read_checked_json
from harness.check.baseline import baseline_path, read_baseline, write_baseline
from harness.claims.document import read_claims
from harness.compare.read import read_run
from harness.plan.runs import Run
from harness.report.card import read_card
from harness.report.summary import verdicts_of
from harness.results.fit import forget_broken
from harness.results.folders import check_files
from harness.results.heartbeats import Heartbeat, heartbeat_path, read_heartbeats
from harness.results.selection import read_selection, write_selection
from harness.results.store import Store
from harness.results.tables import read_curves, read_table
from harness.share.export import export, load_ticket
from harness.share.ticket_table import ticket_table
from harness.stages.tickets import open_pack, pack_path
from harness.verify.rebuild import crate
from tests.check.results import results
from tests.tiny import TinyRun
from tests.verify.test_forged import shared_of

DENSE = "lenet/r0/k0/L0-dense-o0"
SLOWEST, LARGEST = 60, 4 * 2**30  # seconds for one input, bytes of the whole process
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, 2**70, -(2**63), "", " ", "x" * 100_000, "\u0000", "\ud83d\ude00", "NaN"),
    *("../../etc/passwd", "/", "<script>", "[bold]", "1e1", [], {}, [[]], {"": None}, [None] * 1000, "a\nb", "\u202e"),
)


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with one change: of its bytes, or of a value where it is JSON."""
    if content[:1] in (b"{", b"[") and draw.random() < 0.7:
        value = json.loads(content)
        changed = with_another_value(value, draw)
        return json.dumps(changed, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    content, place = bytearray(content), draw.randrange(len(content))
    kind = draw.randrange(5)
    if kind == 0:
        content[place] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del content[place:]
    elif kind == 2:
        content[place:place] = draw.randbytes(draw.choice((1, 8, 1000)))
    elif kind == 3:
        del content[place : place + draw.choice((1, 8, 1000))]
    else:
        other = draw.randrange(len(content))
        content[place : place + 8], content[other : other + 8] = content[other : other + 8], content[place : place + 8]
    return bytes(content)


def with_another_value(value: Any, draw: random.Random) -> Any:
    """JSON with one value exchanged, removed, renamed or repeated somewhere in it."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return draw.choice(NASTY)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = draw.choice(list(keys))
    copy: Any = value.copy()
    change = draw.random()
    if change < 0.1:
        del copy[key]
    elif change < 0.2 and isinstance(copy, dict):
        copy[draw.choice(("x", "", "__class__", f"{key}2", f" {key}"))] = copy.pop(key)
    elif change < 0.2:
        copy.append(copy[key])
    else:
        copy[key] = with_another_value(copy[key], draw)
    return copy


@contextmanager
def bounded(what: object) -> Iterator[None]:
    """Accepts HarnessError of one line; fails for any other error, too much time or too much memory."""
    started, before = time.monotonic(), _peak()
    told = ""
    try:
        yield
    except HarnessError as error:
        told = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error!s:.500}") from error
    assert len(told.splitlines()) <= 2, (what, told)
    assert len(told) < 3000, (what, told[:3000])
    assert time.monotonic() - started < SLOWEST, what
    assert _peak() <= max(LARGEST, before), what  # other tests of the process may have taken more before


def _peak() -> int:
    """The most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture
def run(copy: TinyRun, tmp_path) -> TinyRun:
    """A finished run with a selection, heartbeats, an exported ticket and a baseline."""
    write_selection(copy.folders, ["C1"], finished=True)
    export(copy.context.spec, copy.folders, "lenet", 0, 5, 2, "imp", tmp_path / "ticket")
    Heartbeat(heartbeat_path(copy.folders.progress, "lenet/c0/dense"), "lenet/c0/dense", 9, running=DENSE).beat()
    write_baseline(baseline_path(tmp_path / "papers" / "stabilizing-lth", "mini"), results())
    return copy


def readers(run: TinyRun, tmp_path: Path) -> list[tuple[Path, Callable[[], object]]]:
    """Every kind of file that is read, each with what reads it."""
    folders, paper = run.folders, tmp_path / "papers" / "stabilizing-lth"
    store, imp = Store(folders.runs), Run("lenet", 0, 5, 2, "imp", 0).id
    pack = pack_path(folders, "lenet", 0)
    stage = folders.stage("lenet/c0/dense")
    return [
        (folders.claims, lambda: read_claims(folders.claims)),
        (folders.claims, lambda: verdicts_of(folders)),
        (folders.card, lambda: read_card(folders)),
        (folders.table, lambda: read_table(folders.table)),
        (folders.all_curves, lambda: read_curves(folders.all_curves)),
        (store.record_path(DENSE), lambda: store.read(DENSE)),
        (store.tensors_path(imp), lambda: store.load(imp)),
        (pack, lambda: open_pack(pack).mask("imp", 5, 2)),
        (pack, lambda: open_pack(pack).rewound(5)),
        (tmp_path / "ticket" / "ticket.safetensors", lambda: load_ticket(tmp_path / "ticket")),
        (folders.networks, lambda: ticket_table(run.context.spec, folders)),
        (folders.selection, lambda: read_selection(folders)),
        (heartbeat_path(folders.progress, "lenet/c0/dense"), lambda: read_heartbeats(folders.progress)),
        (folders.provenance, lambda: read_checked_json(folders.provenance)),
        (folders.provenance, lambda: read_run(str(folders.base), tmp_path, tmp_path, "stabilizing-lth", "tiny")),
        (folders.metrics, lambda: read_checked_json(folders.metrics)),
        (folders.crate, lambda: list(crate(shared_of(run)))),
        (folders.crate, lambda: check_files(folders.base, {folders.crate.name: folders.crate})),
        (stage, lambda: forget_broken(run.context.spec, folders)),
        (baseline_path(paper, "mini"), lambda: read_baseline("committed", paper, "stabilizing-lth", "mini")),
    ]


@pytest.mark.parametrize("inputs", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_readers(run, tmp_path, inputs):
    draw, pairs = random.Random(7), readers(run, tmp_path)
    contents = {path: path.read_bytes() for path, _ in pairs}
    for number in range(inputs):
        path, read = pairs[number % len(pairs)]
        path.write_bytes(mutated(contents[path], draw))
        with bounded(f"input {number}, {path.name}"):
            read()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[path])
