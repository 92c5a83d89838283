"""What a run derives from its records, made again by the workflow's own functions: a line for every difference.

Checksums on a card show that files are as they were when the card was written. Whoever alters a file can write a card
to match. Then the file is no longer what its own inputs give, and each of those is held against its inputs in turn.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_atomically
from harness.claims.document import read_claims
from harness.claims.looks import read_looks, sentence
from harness.lottery.interpolation import BATCH_NORM, barrier
from harness.paper.columns import CURVE_COLUMNS, CURVE_KEYS, ROW_KEYS
from harness.paper.load import dump
from harness.report.card import write_card
from harness.results.code import PACKAGE
from harness.results.context import Work
from harness.results.environment import code_revision
from harness.results.folders import Folders
from harness.results.keys import CODE_PARTS, JUDGED, identity
from harness.stages import collect
from harness.stages.judging import claims_stage, published, scale_content
from harness.stages.stability import pair_row
from harness.verify.differences import differences
from harness.verify.drawings import DRAWN
from harness.verify.shared_run import PAIR_KEYS, SharedRun

#: fields of provenance.json that follow from the stages' records; the others are the machine's and the clock's
FROM_RECORDS = (
    *("paper", "scale", "started", "finished"),
    *("network_core_seconds", "cpu_seconds", "training_share", "stages"),
)
CRATE = "ro-crate-metadata.json"
_CLOSE = 1e-9  # relative: the same arithmetic on another machine


@contextmanager
def _scratch(shared: SharedRun, *names: str) -> Iterator[Folders]:
    """A folder with links to some files of a run. What is written there takes a link's place and alters no file."""
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as folder:
        for name in names:
            path, link = shared.folders.base / name, Path(folder, name)
            if path.is_file():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        yield Folders(Path(folder))


def tables(shared: SharedRun) -> Iterator[str]:
    """The table and all curves, from networks.json and from what the stages that compare networks wrote."""
    networks = [(run, shared.networks[run.id]) for run in shared.runs() if run.id in shared.networks]
    records = [{**network.model_dump(), **vars(run), "id": run.id} for run, network in networks]
    with _scratch(shared) as folders:
        for name in dict.fromkeys(stage.name for stage, _ in shared.pairs()):
            rows, curves = _pair_rows(shared, name), shared.read_curves(name)
            write_atomically(folders.pairs(name), rows.to_parquet)
            write_atomically(folders.curves(name), curves.to_parquet)
        table, curves = collect.tables(shared.spec, folders, records)
    recorded, rebuilt = _by_row(shared.table), _by_row(table)
    for key in sorted({*recorded, *rebuilt}):
        row, expected = ({_named(key): rows[key]} if key in rows else {} for rows in (recorded, rebuilt))
        yield from differences("table.parquet", row, expected)
    if not shared.curves[list(CURVE_COLUMNS)].equals(curves[list(CURVE_COLUMNS)]):
        yield "curves.parquet: is not what the stages' curves make together"


def _pair_rows(shared: SharedRun, stage: str) -> pd.DataFrame:
    """The rows of a stage that compares networks: measured by the stage, described by the plan."""
    planned = [pair_row(pair, shared.status(pair.run, pair.run_b)) for own, pair in shared.pairs() if own.name == stage]
    return pd.DataFrame(planned).merge(shared.read_pairs(stage), on=PAIR_KEYS, validate="one_to_one")


def _by_row(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return {tuple(row[name] for name in ROW_KEYS): {str(name): value for name, value in row.items()} for row in rows}


def _named(key: tuple[str, ...]) -> str:
    row, run, other, comparison = key
    return run if row == "network" else f"{run} and {other} ({comparison})"


def instabilities(shared: SharedRun) -> Iterator[str]:
    """Each instability of the table against its curve."""
    errors = {key: part["error"].to_numpy() for key, part in shared.curves.groupby(CURVE_KEYS[:4])}
    recorded = {(row["run"], row["run_b"], row["comparison"]): row for row in shared.table.to_dict("records")}
    ways = [(way, split) for way in BATCH_NORM for split in ("train", "test")]
    for _, pair in shared.pairs():
        row = recorded.get((pair.run.id, pair.run_b.id, pair.comparison))
        if row is None or not pair.interpolated or shared.status(pair.run, pair.run_b) != "ok":
            continue  # a missing row is said of the table
        for way, split in ways:
            name = f"instability_{split}{'' if way == BATCH_NORM[0] else '_reestimated'}"
            curve = errors.get((pair.run.id, pair.run_b.id, way, split))
            if curve is None or not np.isclose(barrier(curve), row[name], rtol=_CLOSE, atol=_CLOSE):
                yield f"table.parquet: {pair.run.id} and {pair.run_b.id}: {name} is not its curve's"


def provenance(shared: SharedRun) -> Iterator[str]:
    """What provenance.json takes from the stages' records."""
    records = shared.provenance, collect.provenance(shared.spec, shared.folders)
    recorded, rebuilt = ({name: record.get(name) for name in FROM_RECORDS} for record in records)
    yield from differences("provenance.json", recorded, rebuilt)


def claims(shared: SharedRun) -> Iterator[str]:
    """claims.json and metrics.json, from the table."""
    with _scratch(shared, "table.parquet", "looks.json") as folders:
        claims_stage(Work(shared.spec, folders, "claims"))
        rebuilt, metrics = _claims(folders), read_json(folders.metrics)
        looked = len(read_looks(folders.looks)) - len(read_looks(shared.folders.looks))
    if looked and shared.same_code("claims"):
        yield "looks.json: its last look is not what claims.json says"
    yield from differences("metrics.json", shared.read_object("metrics.json"), metrics, close=_CLOSE)
    yield from differences("claims.json", _claims(shared.folders), rebuilt, "judged again", _CLOSE)


def _claims(folders: Folders) -> list[dict[str, Any]]:
    return [claim.model_dump(mode="json") for claim in read_claims(folders.claims)]


def card(shared: SharedRun) -> Iterator[str]:
    """What the card says of the run, from provenance.json, the claims and the networks; its files are checked apart."""
    _ = shared.provenance, shared.networks  # of the right form: the card is made from them
    recorded = shared.card
    with _scratch(
        shared, "provenance.json", "claims.json", "networks.json", "looks.json", "stages/selection.json"
    ) as folders:
        write_card(shared.spec, folders)
        rebuilt = read_json(folders.card)
    rebuilt["files"], rebuilt["code"]["digests"] = recorded["files"], recorded["code"]["digests"]
    for part in JUDGED:  # of other code these are not known here
        if not shared.same_code(*(CODE_PARTS if part == "report" else (part,))) and part in recorded["parts"]:
            rebuilt["parts"][part] = recorded["parts"][part]
    if not shared.same_code("data"):
        rebuilt["data"] = recorded["data"]
    yield from differences("card.json", recorded, rebuilt, "the other files say")


def crate(shared: SharedRun) -> Iterator[str]:
    """The crate, from the card that it quotes and provenance.json."""
    from harness.report.crate import crate

    _ = shared.provenance  # of the right form: the crate is made from it
    rebuilt = json.loads(json.dumps(crate(shared.card, shared.folders, agent(shared)).metadata.generate()))
    entities = _entities(shared.read_object(CRATE)), _entities(rebuilt)
    yield from differences(CRATE, *(entities if same_words(shared) else map(_contents, entities)))


def _contents(entities: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The checksum and the size of every file: they are the same in whichever words a crate describes it."""
    files = {name: entity for name, entity in entities.items() if "sha256" in entity and "contentSize" in entity}
    return {name: {field: files[name][field] for field in ("sha256", "contentSize")} for name in files}


def _entities(crate: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A crate's entities by name. Raises HarnessError for anything else in their place."""
    graph = crate.get("@graph")
    if not isinstance(graph, list) or not all(isinstance(e, dict) and isinstance(e.get("@id"), str) for e in graph):
        raise HarnessError(f"{CRATE}: @graph is no list of entities with an @id. Pull it again")
    entities: dict[str, dict[str, Any]] = {}
    for entity in graph:
        if entity["@id"] in entities:
            raise HarnessError(f"{CRATE}: {entity['@id']!r:.120}: is duplicated. Pull it again")
        entities[entity["@id"]] = entity
    return entities


def agent(shared: SharedRun) -> str:
    """Who ran it, as the crate says: nothing else does."""
    name = _entities(shared.read_object(CRATE)).get("#agent", {}).get("name", "")
    return name if isinstance(name, str) else ""


def same_words(shared: SharedRun) -> bool:
    """Whether this code describes files as the run's did: another version of it or of the library may not."""
    return shared.same_machine and code_revision(PACKAGE.parent)[0] == shared.card["code"]["revision"]


def page(shared: SharedRun) -> Iterator[str]:
    """The page and its Markdown twin, from the tables. Figures count where they are drawn alike."""
    from harness.report import build_report

    here = identity(shared.spec)
    code = {part: shared.card["code"]["digests"].get(part, "") for part in here["code"]}
    with _scratch(shared) as folders:
        build_report(
            dump(shared.spec.paper),
            scale_content(shared.spec),
            read_claims(shared.folders.claims),
            shared.table,
            shared.curves,
            published(shared.spec),
            {
                **shared.provenance,
                "identity": {**here, "code": code},
                "looks": sentence(read_looks(shared.folders.looks)),
            },
            folders.report,
        )
        recorded, rebuilt = (_drawn(own.report) for own in (shared.folders, folders))
    for name in sorted({*recorded, *rebuilt}):
        if name not in recorded or name not in rebuilt:
            yield f"{name}: is {'missing' if name in rebuilt else 'not a figure of the page'}"
        elif texts := _first_difference(*(DRAWN.sub("<svg/>", page[name]) for page in (recorded, rebuilt))):
            yield f"{name}: is not what its tables give: {texts}"
        elif shared.same_machine and recorded[name] != rebuilt[name]:
            yield f"{name}: is not what its tables give: its figures differ"


def _drawn(report: Path) -> dict[str, str]:
    """The page, its twin and its figures by name."""
    paths = [report / "index.html", report / "report.md", *(report / "figures").glob("*")]
    return {f"report/{path.relative_to(report).as_posix()}": path.read_text(encoding="utf-8") for path in paths}


def _first_difference(recorded: str, rebuilt: str) -> str:
    """The first line that differs, as it is and as it was made again, or ""."""
    if recorded == rebuilt:
        return ""
    pairs = zip([*recorded.splitlines(), ""], [*rebuilt.splitlines(), ""], strict=False)
    line, expected = next(((a.strip(), b.strip()) for a, b in pairs if a != b), ("", ""))
    return f"{line[:100]!r} instead of {expected[:100]!r}"
