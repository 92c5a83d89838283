"""`harness verify` on runs that are damaged, or hold more than a run does: each is a difference, none a traceback."""

import io
import re
import shutil
import subprocess
from collections.abc import Callable

import pandas as pd
import pytest
from rich.console import Console

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json, write_text
from harness.base.paths import checkout
from harness.report.card import read_card
from harness.report.crate import write_crate
from harness.results.code import PACKAGE
from harness.results.folders import check_folder
from harness.verify.drawings import fault
from harness.verify.revision import code, code_fault, copies
from harness.verify.verify import Findings, verify
from harness.workflow.adopt import report_again
from tests.tiny import TinyRun
from tests.verify.alter import change_json, change_pack, list_again, record_again
from tests.verify.test_forged import STABILITY, differences, remade, shared_of

PACK = "tickets/lenet/r1.safetensors"


def rewrite_card(tiny_run: TinyRun, **facts) -> None:
    """The card and the crate to match whatever was altered, with other facts put in between."""
    tiny_run.stage("card")
    card = read_json(tiny_run.folders.card)
    for name, value in facts.items():
        card[name] = {**card[name], **value} if isinstance(value, dict) else value
    write_json(tiny_run.folders.card, card)
    write_crate(read_card(tiny_run.folders), tiny_run.folders)


def checked(tiny_run: TinyRun) -> tuple[Findings, str]:
    """Every check, without training; the page of these runs is a stand-in, so that is left out."""
    stream, shared = io.StringIO(), shared_of(tiny_run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.verify.rebuild.page", lambda shared: iter(()))
        return verify(shared, 0, 0, Console(file=stream, width=400)), stream.getvalue()


def test_metrics_that_are_not_those_of_the_claims_are_found(copy):
    change_json(copy.folders.metrics, lambda found: found["claims"]["C1"].update(verdict="supported"))
    rewrite_card(copy)
    assert differences(copy) == ["metrics.json: claims: C1: verdict: 'supported', made again 'not tested'"]


def twice_a_claim(tiny_run: TinyRun) -> None:
    change_json(tiny_run.folders.claims, lambda found: found.insert(0, {**found[0], "verdict": "supported"}))


def twice_a_stage(run: TinyRun) -> None:
    change_json(run.folders.provenance, lambda found: found["stages"].insert(0, {**found["stages"][0], "steps": 1}))


def twice_an_entity(tiny_run: TinyRun) -> None:
    change_json(tiny_run.folders.crate, lambda found: found["@graph"].insert(0, {**found["@graph"][-1], "name": "x"}))


@pytest.mark.parametrize(
    ("name", "alter", "listed"),
    [
        ("claims.json", twice_a_claim, True),
        ("provenance.json", twice_a_stage, True),
        ("ro-crate-metadata.json", twice_an_entity, False),
    ],
)
def test_an_id_that_stands_twice_is_a_difference(copy, name, alter, listed):
    alter(copy)
    if listed:
        list_again(copy.base, name)
    found, _ = checked(copy)
    assert any(name in line and "is duplicated" in line for line in found.differences), found.differences


# what is broken, and a word of the line that says so
DAMAGE: list[tuple[Callable[[TinyRun], object], str]] = [
    (
        lambda run: (run.folders.report / "report.md").unlink(),
        "report/report.md: is on the card and missing here",
    ),
    (
        lambda run: run.folders.pairs(STABILITY).unlink(),
        f"stages/{STABILITY}.parquet: is on the card and missing",
    ),
    (
        lambda run: run.folders.curves(STABILITY).unlink(),
        f"{STABILITY}.curves.parquet: is on the card and missing",
    ),
    (
        lambda run: (run.folders.report / "index.html").write_bytes(b"<p>\xff"),
        "could not be checked: UnicodeDecode",
    ),
    (
        lambda run: change_json(run.folders.card, lambda card: card["files"].pop("table.parquet")),
        "table.parquet: is not on the card, and this run has to have it",
    ),
    (
        lambda run: change_stage(run, lambda stage: stage.pop("steps")),
        "stages.0.steps: this field is missing",
    ),
    (lambda run: change_stage(run, lambda stage: stage.update(started="x")), "stages.0.started: "),
    (lambda run: change_stage(run, lambda stage: stage.update(started=1e300)), "stages.0.started: "),
    (lambda run: change_stage(run, lambda stage: stage.update(image=[])), "stages.0.image: "),
    (lambda run: change_stage(run, lambda stage: stage.update(stage=["x"])), "stages.0.stage: "),
    (lambda run: change_json(run.folders.provenance, lambda found: found.update(stages={})), "stages: "),
    (
        lambda run: run.folders.stage("lenet/c0/dense").write_text('{"inputs": {}, "outputs": {}}'),
        "lenet/c0/dense.json: code_revision: this field is missing",
    ),
    (
        lambda run: change_json(run.folders.crate, lambda found: found.update({"@graph": [{"@id": []}]})),
        "@graph is no",
    ),
    (
        lambda run: change_json(run.folders.claims, lambda found: found[0].pop("id")),
        "claims.json: claim 1: id: this field is missing",
    ),
    (lambda run: write_json(run.folders.networks, {}), "networks.json: lenet/r0/k0/L0-dense-o0: is missing"),
    (lambda run: write_json(run.folders.networks, []), "networks.json: the whole file: "),
    (lambda run: write_json(run.folders.crate, []), "ro-crate-metadata.json: holds no object"),
    (lambda run: write_json(run.folders.claims, []), "claims.json: 0 entries, judged again 34 entries"),
]


def change_stage(tiny_run: TinyRun, change: Callable) -> None:
    change_json(tiny_run.folders.provenance, lambda found: change(found["stages"][0]))


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[one[1][:40] for one in DAMAGE])
def test_damage_is_a_difference_and_the_other_checks_go_on(copy, damage, message):
    damage(copy)
    write_json(copy.folders.metrics, {})
    found, output = checked(copy)
    assert any(message in line for line in found.differences), found.differences
    assert any("metrics.json" in line for line in found.differences)
    assert output.endswith(f"{len(found.differences)} differences\n")


def test_a_folder_in_forty_others_is_refused_in_one_line(copy):
    deep = copy.folders.report
    for _ in range(40):
        deep /= "a"
    deep.mkdir(parents=True)
    with pytest.raises(HarnessError, match="folders deep") as caught:
        check_folder(copy.base)
    assert "\n" not in str(caught.value)


def test_weights_of_tickets_are_held_against_the_snapshots_that_lie_with_the_run(copy):
    change_pack(copy.base / PACK, lambda tensors: tensors["k5/weights/output.bias"].mul_(1.5))
    record_again(copy.base, "lenet/c0/tickets", PACK)
    remade(copy)
    line = f"{PACK}: weights/output.bias of step 5 is not what the dense network had then"
    found, _ = checked(copy)
    assert found.differences == [line]
    (copy.folders.runs / "lenet/r1/k0/L0-dense-o0.snapshots.safetensors").unlink()
    found, output = checked(copy)
    assert not found.differences
    assert "tickets' weights at k > 0 of 1 replicates, unless their dense network was trained again" in output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("report/evil.html", "report/evil.html: is on the card, and no file of this run"),
        ("stages/lenet/c0/k7-stability.parquet", "k7-stability.parquet: is on the card, and no file of this run"),
        ("tickets/lenet/r7.safetensors", "r7.safetensors: is on the card, and no file of this run"),
        ("report/workflow/harness/workflow/more.smk", "more.smk: is no file of the workflow"),
        ("report/workflow/Snakefile", "report/workflow/Snakefile: is not the one of the code that the card names"),
        ("report/workflow/harness/workflow/train.smk", "train.smk: is not the one of the code that the card names"),
    ],
)
def test_no_file_but_those_of_the_plan_is_accepted_and_the_workflow_is_the_codes(copy, name, message):
    (copy.base / name).parent.mkdir(parents=True, exist_ok=True)
    (copy.base / name).write_text("more")
    list_again(copy.base, name)
    assert [line for line in differences(copy) if message in line]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"data": {"digits": "0" * 64}}, "card.json: data: "),
        ({"parts": {"claims": "0" * 16}}, "card.json: parts: claims: '0000000000000000', the other files say"),
        ({"parts": {"more": "0" * 16}}, "card.json: parts: more: has no place there"),
    ],
)
def test_checksums_of_data_and_digests_of_parts_are_held_against_this_code(copy, facts, message):
    rewrite_card(copy, **facts)
    lines = differences(copy)
    assert len(lines) == 1
    assert lines[0].startswith(message)


def test_who_ran_it_is_taken_from_the_crate_and_said_to_stand_nowhere_else(copy, monkeypatch):
    monkeypatch.setenv("HARNESS_AGENT", "A. Name")
    copy.stage("card")
    for name in ("", "Another"):
        monkeypatch.setenv("HARNESS_AGENT", name)
        found, output = checked(copy)
        assert not found.differences
        assert "who ran it (the crate alone names an agent)" in output


SHAPE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><title id="t">a &lt; b</title><g>{}</g></svg>'


@pytest.mark.parametrize(
    "more",
    [
        "<script>1</script>",
        "<foreignObject><p>supported</p></foreignObject>",
        '<path d="M 0 0" onload="x()"/>',
        '<path d="M 0 0" ONclick="x()"/>',
        '<use href="https://example.org/x.svg#a"/>',
        '<use xlink:href="data:image/svg+xml,x"/>',
        '<a href="#x"><text>x</text></a>',
        "<style>*{display: none}</style>",
        "<style><img src=x onerror=x()></style>",
        '<g style="position: fixed"></g>',
        '<g style="fill: url(https://example.org/x)"></g>',
        '<g style="fill: u\\72l(x)"></g>',
        '<g clip-path="URL (x)"></g>',
        '<g overflow="visible"></g>',
        "<!-- x -->",
        "<![CDATA[<script>1</script>]]>",
        "<!ENTITY x 'y'>",
        "<?xml-stylesheet href='x'?>",
        '<g id="</svg>"><script>1</script></g>',
    ],
)
def test_a_drawing_with_more_than_a_drawing_is_refused_wherever_it_lies(copy, more):
    svg = SHAPE.format(more)
    assert not fault(SHAPE.format('<path d="M 0 0" style="fill: none; stroke-width: 0.6" clip-path="url(#a)"/>'))
    assert fault(svg)
    write_text(copy.folders.report / "figures" / "distance.svg", svg)
    write_text(copy.folders.report / "index.html", f"<!doctype html><title>page</title><p>{svg}</p>")
    copy.stage("card")
    names = {line.partition(": ")[0] for line in differences(copy)}
    assert "report/figures/distance.svg" in names
    assert names <= {"report/figures/distance.svg", "report/index.html"}
    if "</svg>" not in more:
        assert "report/index.html" in names


def test_other_code_than_here_is_not_verified_and_the_last_line_says_so(copy):
    rewrite_card(copy, code={"digests": {**read_card(copy.folders)["code"]["digests"], "report": "0" * 64}})
    shared, stream = shared_of(copy), io.StringIO()
    found = verify(shared, 2, 0, Console(file=stream, width=400))
    last = stream.getvalue().splitlines()[-1]
    assert found.fine == (code_fault(shared) != "")
    if found.fine:  # else git here has the revision, whose digests these are not
        assert last.startswith("No difference in what could be checked; not checked: ")
        assert "the page (the code that writes it has changed since)" in last
        assert "keys and digests of what other code made here (report)" in last


def test_what_other_code_made_otherwise_is_not_told_as_damage(copy, monkeypatch):
    """As after an update that collects another column: nothing is wrong with the run, and it is not verified here."""
    table = pd.read_parquet(copy.folders.table)
    table.assign(test_accuracy=table["test_accuracy"] + 1).to_parquet(copy.folders.table, index=False)
    digests = {**read_card(copy.folders)["code"]["digests"], "collect": "0" * 64, "claims": "0" * 64}
    rewrite_card(copy, code={"digests": digests})
    monkeypatch.setattr("harness.verify.revision.committed", lambda shared: None)  # git here lacks that code
    findings, text = checked(copy)
    lines = text.splitlines()
    assert not findings.fine
    assert findings.differences == []
    assert findings.incomparable[0] == "the table and the curves"
    assert [
        line for line in lines if line.startswith("OTHER CODE made the table and the curves: this code gives other")
    ]
    assert re.fullmatch(r"Not verified: other code made this run\. Check out .+ and verify there", lines[-1])
    with pytest.raises(HarnessError, match=r"table\.parquet: other code collected these tables\. `harness reproduce`"):
        report_again(checkout(), copy.context.spec, copy.folders)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> str:
    """A git repository with a Snakefile and this package, committed, in place of this checkout's; its revision."""
    root = tmp_path / "repository"
    shutil.copytree(PACKAGE, root / "harness", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (root / "Snakefile").write_text("committed")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    monkeypatch.setattr("harness.verify.revision.PACKAGE", root / "harness")
    return git("rev-parse", "HEAD")


def test_the_cards_code_is_held_against_its_revision_where_git_has_it(copy, repository):
    head = repository
    digests = read_card(copy.folders)["code"]["digests"]
    assert not fine_code(copy, head, digests)
    assert fine_code(copy, head, {**digests, "claims": "0" * 64}) == [
        f"card.json: code: digests: that of claims is not that of revision {head[:10]}"
    ]
    shared = shared_of(copy)
    assert "report/workflow/Snakefile: is not the one of the code that the card names" in list(copies(shared))
    write_text(copy.folders.report / "workflow" / "Snakefile", "committed")
    list_again(copy.base, "report/workflow/Snakefile")
    assert not list(copies(shared_of(copy)))
    for other in ("0" * 40, "HEAD", "--help"):
        assert not fine_code(copy, other, digests)
        assert "git here does not have its revision" in code_fault(shared_of(copy))


def fine_code(tiny_run: TinyRun, revision: str, digests: dict) -> list[str]:
    change_json(
        tiny_run.folders.card, lambda card: card["code"].update(revision=revision, tree_clean=True, digests=digests)
    )
    return list(code(shared_of(tiny_run)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("paper", "other"), ("network", "other"), ("classes", "7"), ("data_checksum", "0" * 64), ("restart", "true")],
)
def test_what_a_pack_says_of_itself_is_held_against_the_spec(copy, field, value):
    change_pack(copy.base / PACK, lambda tensors: None, **{field: value})
    record_again(copy.base, "lenet/c0/tickets", PACK)
    remade(copy)
    lines = differences(copy)
    assert len(lines) == 1
    assert lines[0].startswith(f"{PACK}: {field}: ")
    assert ", the spec says " in lines[0]
