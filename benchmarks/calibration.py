"""The calibration bands of the mini scales, and the reference runs that they follow from.

Each experiment's dense network is trained in random draws that no run uses, and once more in another data order, in 16
replicates: ``benchmarks/results/calibration.csv``. Both papers' mini scales share these networks.

Rule: a band is the prediction interval, at 99.9%, for the mean of three new replicates, the fewest that a claim is
judged on, if accuracies and the logarithms of losses and distances are normal. It is rounded outwards to three digits.
So a correct run misses one of its twelve bands in about one of 100 runs. No claim had a part in the rule.

Run: ``python -m benchmarks.calibration FOLDER`` from the root of the repository. It trains for five core-minutes below
the folder, writes the file, and prints the bands, which a test compares with the scales'.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from harness.base.paths import checkout
from harness.claims.calibration import MEASURES
from harness.paper import Spec, load_spec
from harness.plan.runs import data_sets, stages
from harness.results.folders import Folders
from harness.results.tables import read_table
from harness.workflow.run_stage import run_stage

REPLICATES = 16
LEVEL, NEW = 0.999, 3
RESULT = Path(__file__).parent / "results" / "calibration.csv"


def dense_only(spec: Spec, replicates: int, draws: str = "") -> Spec:
    """A scale's dense networks, each in two data orders, with the random draws of other names."""
    update = {"replicates": replicates, "replicates_per_job": replicates, "dense_orders": (0,), "dense_copies": 1}
    rest = {
        "sweeps": (),
        "snapshots": (),
        "line": spec.scale.experiments["lenet"].line.model_copy(update={"points": 0}),
    }
    scale = {name: setting.model_copy(update=update | rest) for name, setting in spec.scale.experiments.items()}
    experiments = {
        name: e.model_copy(update={"draws": f"{draws}{name}"}) if draws else e for name, e in spec.experiments.items()
    }
    return replace(spec, experiments=experiments, scale=spec.scale.model_copy(update={"experiments": scale}))


def table_of(spec: Spec, folder: Path, threads: int = 1) -> pd.DataFrame:
    """Train and compare a scale in a folder; its tidy table."""
    folders = Folders(folder)
    names = [f"prepare/{name}" for name in data_sets(spec)]
    for name in (*names, *(stage.name for stage in stages(spec)), "collect"):
        run_stage(spec, folders, name, threads)
    return read_table(folders.table)


def values(table: pd.DataFrame) -> pd.DataFrame:
    """Each measure of each reference replicate: of the dense run, or of the pair of it and its copy."""
    rows = []
    for experiment, own in table[table["data_order"] == 0].groupby("experiment"):
        for name, measure in MEASURES.items():
            kind = "pair" if measure.rows else "network"
            for _, row in own[own["row"] == kind].sort_values("replicate").iterrows():
                rows.append((experiment, name, row["replicate"], row[measure.column]))
    return pd.DataFrame(rows, columns=["experiment", "measure", "replicate", "value"])


def band(sample: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    """The rule, on reference values [n]."""
    sample = np.log(sample) if logarithmic else sample
    t = stats.t.ppf((1 + LEVEL) / 2, len(sample) - 1)
    half = float(t * sample.std(ddof=1) * math.sqrt(1 / len(sample) + 1 / NEW))
    low, high = (float(np.exp(x) if logarithmic else x) for x in (sample.mean() - half, sample.mean() + half))
    digits = [2 - math.floor(math.log10(x)) for x in (low, high)]
    return (
        round(math.floor(low * 10 ** digits[0]) / 10 ** digits[0], digits[0]),
        round(math.ceil(high * 10 ** digits[1]) / 10 ** digits[1], digits[1]),
    )


def bands(reference: pd.DataFrame) -> dict[str, dict[str, tuple[float, float]]]:
    """The band of each measure, by experiment."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for (experiment, measure), own in reference.groupby(["experiment", "measure"]):
        sample = own["value"].to_numpy(dtype=float)
        found.setdefault(experiment, {})[measure] = band(sample, not measure.endswith("accuracy"))
    return found


def main(folder: Path) -> None:
    spec = dense_only(load_spec(checkout(), "stabilizing-lth", "mini"), REPLICATES, "reference-")
    reference = values(table_of(spec, folder))
    reference.to_csv(RESULT, index=False)
    for experiment, own in bands(reference).items():
        print(experiment, {measure: list(own[measure]) for measure in MEASURES})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
