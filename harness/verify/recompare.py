"""Comparing pairs of networks of somebody's run again, to hold distances, angles and curves against its tables."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from harness.paper.columns import CURVE_KEYS
from harness.plan.runs import Pair, Stage
from harness.results.context import Context
from harness.results.folders import Folders
from harness.results.store import Store
from harness.stages import stability as compare
from harness.training.loop import use_threads
from harness.verify.retrain import choose, exact, lay_data, link, threads
from harness.verify.shared_run import SharedRun

#: how far an error may be from the recorded one on another kind of machine, where a sample at the border between two
#: classes may fall to the other side; an instability is the difference of two errors
CURVE_POINTS = 1.0
_CLOSE = 1e-7  # relative, and of what is near 0: double precision, added up in another order


@dataclass
class Compared:
    """A pair that was compared again, and its differences."""

    pair: Pair
    exact: bool = False  # the same bits were to be expected
    differences: list[str] = field(default_factory=list)


def measured(shared: SharedRun) -> dict[str, tuple[Stage, Pair]]:
    """The pairs whose networks both ended well, by name."""
    return {
        f"{pair.run.id} and {pair.run_b.id} ({pair.comparison})": (stage, pair)
        for stage, pair in shared.pairs()
        if {pair.run.id, pair.run_b.id} <= shared.networks.keys() and shared.status(pair.run, pair.run_b) == "ok"
    }


def choose_networks(names: list[str], pairs: list[Pair], number: int, seed: int) -> list[str]:
    """Networks to train again: each equally likely, and after it one that it is compared with.

    So their pairs can be compared again, too; those with a line come first. The same for the same seed, whatever the
    machine.
    """
    chosen: list[str] = []
    for name in choose(names, len(names), seed):
        if name not in chosen:
            own = [pair for pair in pairs if name in (pair.run.id, pair.run_b.id)]
            own = [pair for pair in own if pair.interpolated] or own
            others = {run.id for pair in own for run in (pair.run, pair.run_b)} - {*chosen, name}
            chosen += [name, *choose(sorted(others), 1, seed)]
        if len(chosen) >= number:
            break
    return chosen[:number]


def recompare(shared: SharedRun, number: int, seed: int, scratch: Path) -> Iterator[Compared]:
    """Compare up to `number` pairs again, chosen among those whose networks are at hand, half of them with a line.

    These lie with the run, as networks.json says, or have just been trained again to the same bits. Raises
    HarnessError where the data set can't be had.
    """
    pairs, folders = measured(shared), Folders(scratch / "pairs")
    ranked = choose(list(pairs), len(pairs), seed)
    lines, others = ([name for name in ranked if pairs[name][1].interpolated is line] for line in (True, False))
    mixed = filter(None, itertools.chain.from_iterable(itertools.zip_longest(lines, others)))

    def readable(name: str) -> bool:
        pair = pairs[name][1]
        return all(link(shared, run.id, scratch, Store(folders.runs)) for run in (pair.run, pair.run_b))

    for name in itertools.islice(filter(readable, mixed), number):
        stage, pair = pairs[name]
        context = Context(shared.spec, folders, stage.experiment)
        lay_data(shared, folders, scratch, context.setting.data)
        yield _again(shared, stage, pair, context)


def _again(shared: SharedRun, stage: Stage, pair: Pair, context: Context) -> Compared:
    use_threads(threads(shared, stage), context.recipe.precision)
    (row,), curves = compare._compare(context, [pair])
    outcome = Compared(pair, exact(shared, stage, "stability"))
    points = _CLOSE if outcome.exact else CURVE_POINTS
    recorded, drawn = (_of_pair(table, pair) for table in (shared.table, shared.curves))
    recorded = recorded[recorded["comparison"] == pair.comparison]
    for measure in ("distance", "angle", *(name for name in row if name.startswith("instability"))):
        before, now = (recorded[measure].iloc[0] if len(recorded) else np.nan), row[measure]
        within = (_CLOSE, _CLOSE) if measure in ("distance", "angle") else (0.0, 2 * points)
        if not np.isclose(before, now, rtol=within[0], atol=within[1], equal_nan=True):
            outcome.differences.append(f"table.parquet: {measure}: {before:.6g}, compared again {now:.6g}")
    for curve in curves:
        way, split = curve["batch_norm"].iloc[0], curve["split"].iloc[0]
        here = drawn[(drawn["batch_norm"] == way) & (drawn["split"] == split)].sort_values(CURVE_KEYS)
        alphas = np.array_equal(here["alpha"], curve["alpha"])
        if not alphas or not np.allclose(here["error"], curve["error"], rtol=0, atol=points):
            outcome.differences.append(
                f"curves.parquet: {split}, BatchNorm {way}: is not the error between the networks"
            )
    return outcome


def _of_pair(table: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    return table[(table["run"] == pair.run.id) & (table["run_b"] == pair.run_b.id)]
