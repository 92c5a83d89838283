"""A finished run as somebody shares it: read with every check of its form, and with the spec that it was made with."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.base.untrusted import open_parquet, read_checked_json
from harness.paper import Spec, load_spec
from harness.paper.columns import PAIR_MEASURES
from harness.plan.runs import Pair, Run, Stage, all_runs, pairs, stages
from harness.report.card import Model, read_card
from harness.results.environment import environment
from harness.results.fit import written
from harness.results.folders import Folders, check_folder
from harness.results.keys import identity, part_code
from harness.results.selection import as_recorded
from harness.results.tables import read_columns, read_curves, read_table
from harness.verify.records import Network, Provenance, Record, check_form

PAIR_KEYS = ["run", "run_b", "comparison"]  # the columns that name a pair


@dataclass(frozen=True)
class SharedRun:
    """A run's spec, folders and card, and what its files hold. Reading raises HarnessError for anything odd in them."""

    spec: Spec
    folders: Folders
    card: dict[str, Any]
    notes: tuple[str, ...]  # what a reader has to know before the findings

    @cached_property
    def networks(self) -> dict[str, Network]:
        """networks.json."""
        path = self.folders.networks
        return check_form(dict[str, Network], read_checked_json(path), path)

    def network(self, name: str) -> Network:
        """An entry of networks.json that must be there. Raises HarnessError otherwise."""
        if name not in self.networks:
            raise HarnessError(f"{self.folders.networks}: {name}: is missing. Pull it again")
        return self.networks[name]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """provenance.json."""
        return self._read(self.folders.provenance, Provenance)

    def record(self, stage: str) -> dict[str, Any]:
        """A stage's record."""
        return self._read(self.folders.stage(stage), Record)

    def _read(self, path: Path, form: type[Model]) -> dict[str, Any]:
        content = read_checked_json(path)
        check_form(form, content, path)
        return dict(content)

    def read_object(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder that holds an object."""
        content = read_checked_json(self.folders.base / name)
        if not isinstance(content, dict):
            raise HarnessError(f"{self.folders.base / name}: holds no object. Pull it again")
        return content

    @cached_property
    def table(self) -> pd.DataFrame:
        """table.parquet."""
        return read_table(self.folders.table)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """curves.parquet."""
        return read_curves(self.folders.all_curves)

    def read_pairs(self, stage: str) -> pd.DataFrame:
        """What a stability stage measured of its pairs, without the measures that none of them has."""
        path = self.folders.pairs(stage)
        there = open_parquet(path).schema_arrow.names
        return read_columns(path, [*PAIR_KEYS, *(name for name in PAIR_MEASURES if name in there)])

    def read_curves(self, stage: str) -> pd.DataFrame:
        """The curves of a stability stage."""
        return read_curves(self.folders.curves(stage))

    def same_code(self, *parts: str) -> bool:
        """Whether these parts of the code compute as they did for the run."""
        return all(_same(self.card, part) for part in parts)

    @cached_property
    def same_machine(self) -> bool:
        """Whether packages and machine are those of the run, so that figures have the same bytes."""
        try:
            then, here = self.provenance, environment()
        except HarnessError:
            return False
        return all(then[name] == here[name] for name in ("packages", "hardware"))

    def runs(self) -> list[Run]:
        """Every network of the plan."""
        return all_runs(self.spec)

    def pairs(self) -> list[tuple[Stage, Pair]]:
        """Every pair of the plan, with the stage that compares it."""
        compared = [stage for stage in stages(self.spec) if stage.kind == "stability"]
        return [(stage, pair) for stage in compared for group in pairs(self.spec, stage) for pair in group]

    def packs(self) -> list[tuple[str, int, Path]]:
        """Experiment, replicate and path of every file of tickets that the plan has."""
        return [
            (stage.experiment, replicate, path)
            for stage in stages(self.spec)
            if stage.kind == "tickets"
            for replicate, path in zip(stage.replicates, written(self.folders, stage).values(), strict=True)
        ]

    def status(self, *runs: Run) -> str:
        """The first of the runs' statuses that is not ok; networks that are not there don't count."""
        statuses = [self.networks[run.id].status for run in runs if run.id in self.networks]
        return next((status for status in statuses if status != "ok"), "ok")


def open_run(folders: Folders, paper: str, scale: str) -> SharedRun:
    """Check a folder's layout, read its card, and find the spec that it was made with.

    That is this checkout's, or where it has changed since, the copy that lies with the page. Raises HarnessError for
    a folder that is none of a run, a card of another paper or scale, and a spec that is neither here nor there.
    """
    left = check_folder(folders.base)
    card = read_card(folders)
    for name, wanted in (("paper", paper), ("scale", scale)):
        if card[name] != wanted:
            raise HarnessError(
                f"{folders.card}: {name}: {card[name]!r:.100}: this is not the {name} asked for ({wanted}). "
                "Give --paper and --scale as on the card"
            )
    notes = [f"the code that {words}" for part, words in _CHANGED.items() if not _same(card, part)]
    notes += [f"{name} is left by another program and no part of the run" for name in left]
    spec, fault = _load(checkout(), card)
    if fault:
        copy = folders.report / "workflow"  # laid out like a checkout
        spec, missing = _load(copy, card, alone=True)
        if missing:
            raise HarnessError(
                f"papers/{paper}: {fault}, and the run keeps no copy ({missing}). "
                f"Check out {card['code']['revision'][:10] or 'the revision of its code'} and verify there"
            )
        notes.append(f"papers/{paper} has changed since ({fault}): verified with the copy in {copy / 'papers' / paper}")
    assert spec is not None
    return SharedRun(as_recorded(spec, folders), folders, card, tuple(notes))


_CHANGED = {
    "training": "trains has changed since: differences may come from that",
    "data": "prepares data has changed since",
    "stability": "compares networks has changed since",
    "collect": "collects tables has changed since",
    "claims": "judges claims has changed since",
    "report": "writes the page has changed since",
}


def _same(card: dict[str, Any], part: str) -> bool:
    return card["code"]["digests"].get(part) == part_code(part)


def _load(root: Path, card: dict[str, Any], alone: bool = False) -> tuple[Spec | None, str]:
    """The spec below a folder and why it is not the card's, or ""."""
    try:
        spec = load_spec(root, card["paper"], card["scale"], alone)
    except HarnessError as error:
        return None, str(error)
    here = identity(spec)["spec"]
    other = sorted(name for name in {*here, *card["spec"]} if here.get(name) != card["spec"].get(name))
    return spec, f"{other[0]} differs" if other else ""
