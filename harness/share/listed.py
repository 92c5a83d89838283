"""The card and the crate: that they list the files that a run has, as they are, and say of it what others say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.claims.judge import read_claims
from harness.errors import HarnessError
from harness.files import file_sha256
from harness.plan import stages
from harness.report.summary import counts
from harness.share.card import NOT_LISTED, shared_files
from harness.share.crosschecks import alike, short, twice
from harness.share.given import Given
from harness.share.tickets import pack_path
from harness.share.untrusted import NAME
from harness.training.store import SNAPSHOTS
from harness.workflow.environment import code_revision
from harness.workflow.identity import CODE_PARTS, distinct, identity
from harness.workflow.rules import PARTS, WRITTEN, part_digest

#: files whose names the plan does not tell: held against the page built again, and against the card's code
_OPEN = re.compile(rf"report/figures/{NAME}\.svg|report/workflow/harness/workflow/{NAME}\.smk")


def files(given: Given) -> Iterator[str]:
    """Every shared file against the card, and both against the files that the plan asks for: no other is accepted."""
    base, listed = given.folders.base, given.card["files"]
    there = {path.relative_to(base).as_posix(): path for path in shared_files(base)}
    for name in sorted({*listed, *there}):
        if name in NOT_LISTED:
            continue
        if name not in there:
            yield f"{name}: is on the card and missing here"
        elif name not in listed:
            yield f"{name}: is not on the card"
        elif there[name].stat().st_size != listed[name]["bytes"]:
            yield f"{name}: {there[name].stat().st_size:,} bytes, the card says {listed[name]['bytes']:,}"
        elif file_sha256(there[name]) != listed[name]["sha256"]:
            yield f"{name}: its checksum is not the card's"
    planned = set(_planned(given))
    for name in sorted(planned - set(listed)):
        yield f"{name}: is not on the card, and this run has to have it"
    for name in sorted(set(listed) - planned):
        if not _OPEN.fullmatch(name):
            yield f"{name}: is on the card, and no file of this run"


def _planned(given: Given) -> Iterator[str]:
    """The names of the shared files that a run of this plan has, but for _OPEN and NOT_LISTED."""
    folders, spec = given.folders, given.spec
    paths = [folders.base / name for part in PARTS for name in WRITTEN[part]]
    paths += [folders.report / "workflow" / "papers" / spec.paper.id / name for name in given.card["spec"]]
    paths += [folders.report / "workflow" / "Snakefile"]
    paths += [folders.stage(f"prepare/{one.data}") for one in spec.scale.experiments.values()]
    paths += [folders.selection] if folders.selection.is_file() else []
    for stage in stages(spec):
        paths.append(folders.stage(stage.name))
        if stage.kind == "stability":
            paths += [folders.pairs(stage.name), folders.curves(stage.name)]
        if stage.kind == "tickets":
            paths += [pack_path(folders, stage.experiment, replicate) for replicate in stage.replicates]
    return (path.relative_to(folders.base).as_posix() for path in paths)


def facts(given: Given) -> Iterator[str]:
    """What the card says of the run against provenance.json, the claims and the networks."""
    card, made = given.card, given.provenance
    records = made["stages"]
    said = {
        "paper": made["paper"],
        "scale": made["scale"],
        "title": given.spec.paper.title,
        "hardware": distinct(records, "hardware", {}),
        "images": distinct(records, "image", ""),
        "verdicts": counts(read_claims(given.folders.claims)),
        "networks": sum(not name.endswith(SNAPSHOTS) for name in given.networks),
        **{name: made[name] for name in ("harness_version", "packages", "started", "finished")},
        **{name: made[name] for name in ("wall_clock_seconds", "network_core_seconds", "energy_joules")},
    }
    code = {"revision": made["code_revision"], "tree_clean": made["tree_clean"]}
    for name, value in said.items():
        if card[name] != value:
            yield f"card.json: {name}: {short(card[name])}, the other files say {short(value)}"
    for name, value in code.items():
        if card["code"][name] != value:
            yield f"card.json: code: {name}: {short(card['code'][name])}, provenance.json says {short(value)}"
    if given.same_code("data") and card["data"] != identity(given.spec)["data"]:
        yield f"card.json: data: {short(card['data'])}, the data sets here have {short(identity(given.spec)['data'])}"
    for part in PARTS:
        known = given.same_code(*CODE_PARTS) if part == "report" else given.same_code(part)
        if known and card["parts"].get(part) != part_digest(given.spec, part):
            yield f"card.json: parts: {part}: is not the digest of this code and these settings"
    for name in sorted(set(card["parts"]) - set(PARTS)):
        yield f"card.json: parts: {name!r:.60}: is no part"


def copies(given: Given) -> Iterator[str]:
    """The crate against the card that it quotes, and the copy of the spec beside the page against the card."""
    from harness.share.crate import crate

    crate_here = given.read_object("ro-crate-metadata")
    written = _entities(crate_here)
    assert given.provenance  # of the right form: the crate is made from it
    made = crate(given.card, given.folders, agent(given))
    expected = _entities(json.loads(json.dumps(made.metadata.generate())))
    for name in twice(one["@id"] for one in _graph(crate_here)):
        yield f"ro-crate-metadata.json: {name!r:.120}: stands there twice"
    fields = None if same_words(given) else ("sha256", "contentSize")
    for name in sorted({*written, *expected}):
        one, other = written.get(name, {}), expected.get(name, {})
        if any(not alike(one.get(field), other.get(field)) for field in fields or {*one, *other}):
            yield f"ro-crate-metadata.json: {name!r:.120}: is not what the card and provenance.json give"
    for name, checksum in given.card["spec"].items():
        place = f"report/workflow/papers/{given.card['paper']}/{name}"
        if given.card["files"].get(place, {}).get("sha256") != checksum:
            yield f"{place}: is not the spec that the card names"


def agent(given: Given) -> str:
    """Who ran it, as the crate says: nothing else does."""
    found = _entities(given.read_object("ro-crate-metadata")).get("#agent", {}).get("name", "")
    return found if isinstance(found, str) else ""


def same_words(given: Given) -> bool:
    """Whether this code describes files as the run's did: another version of it or of the library may not."""
    return given.same_machine and code_revision(Path(__file__).parent)[0] == given.card["code"]["revision"]


def _graph(crate: dict[str, Any]) -> list[dict[str, Any]]:
    """A crate's entities. Raises HarnessError for anything else in its place."""
    graph = crate.get("@graph")
    if not isinstance(graph, list) or not all(
        isinstance(one, dict) and isinstance(one.get("@id"), str) for one in graph
    ):
        raise HarnessError("ro-crate-metadata.json: @graph is no list of entities with an @id. Pull it again")
    return graph


def _entities(crate: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A crate's entities by name."""
    return {one["@id"]: one for one in _graph(crate)}
