"""What surrounds the made-up run: scale, paper, published values, provenance."""

from typing import Any

import numpy as np
import pandas as pd

from tests.report.synthetic.run import DENSITY, LEVELS, SETTINGS


def scale(judges: bool = True) -> dict[str, Any]:
    found = {}
    for name, s in SETTINGS.items():
        found[name] = {
            "title": s["title"],
            "data": s["data"],
            "network": s["network"],
            "rewind": list(s["ks"]),
            "recipe": {
                "optimizer": "sgd",
                "learning_rate": 0.1,
                "momentum": 0.9,
                "batch_size": 64,
                "steps": s["steps"],
                "drops": [1500, 2250],
            },
            "densities": [DENSITY[level] for level in LEVELS],
            "replicates": s["n"],
            "calibration": {"test_accuracy": [s["dense"] - 1.5, s["dense"] + 1.5]},
        }
    return {
        "name": "mini" if judges else "smoke",
        "judges_claims": judges,
        "experiments": found,
        "description": "Directions of the claims on two CPU cores, offline.",
    }


def paper() -> dict[str, Any]:
    return {
        "id": "stabilizing-lth",
        "title": "Stabilizing the Lottery Ticket Hypothesis",
        "arxiv": "1903.01611",
        "year": 2019,
        "authors": ["Jonathan Frankle", "Gintare Karolina Dziugaite", "Daniel M. Roy", "Michael Carbin"],
        "version": "v3",
        "url": "https://arxiv.org/abs/1903.01611",
        "choices": [
            {
                "choice": "Pruning scope",
                "value": "global over convolutions; shortcut and output layers stay dense",
                "source": "LTH, Appendix I",
            },
            {
                "choice": "Optimizer state after a rewind",
                "value": "fresh; schedule and position in the epoch continue from k",
                "source": "open_lth",
            },
            {
                "choice": "BatchNorm at an interpolated point",
                "value": "averaged; re-estimated as a variant",
                "source": "not stated in either paper",
            },
        ],
    }


def published() -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    common = {"k_unit": "step", "comparison": "", "error": np.nan, "obtained": "digitised", "note": ""}
    densities = (0.802, 0.644, 0.518, 0.417, 0.336, 0.271, 0.219, 0.178, 0.144, 0.118, 0.097)
    for k, values in (
        (500, (90.9, 91.0, 91.3, 91.3, 91.1, 91.2, 91.1, 91.2, 90.9, 90.5, 89.8)),
        (0, (90.6, 90.3, 90.3, 89.8, 89.1, 88.9, 88.5, 87.7, 87.3, 86.6, 86.0)),
    ):
        for density, value in zip(densities, values, strict=True):
            rows.append(
                {
                    **common,
                    "figure": "Fig. 5",
                    "experiment": "resnet20-standard",
                    "branch": "imp",
                    "k": k,
                    "density": density,
                    "measure": "test_accuracy",
                    "value": value,
                    "error": 0.4,
                }
            )
    for name, density, numbers in (
        ("lenet", 0.107, (20.7, 58.6, 48.1, 75.7)),
        ("resnet20-standard", 0.167, (66.4, 66.7, 54.4, 53.4)),
        ("resnet20-low", 0.167, (7.1, 28.9, 19.8, 26.6)),
        ("resnet20-warmup", 0.167, (9.5, 37.4, 24.8, 34.6)),
    ):
        for i, (comparison, branch) in enumerate(
            (c, b) for c in ("data_order", "pruning") for b in ("imp", "random_prune")
        ):
            rows.append(
                {
                    **common,
                    "figure": "Fig. 3",
                    "experiment": name,
                    "branch": branch,
                    "k": 0,
                    "density": density,
                    "comparison": comparison,
                    "measure": "distance",
                    "value": numbers[i],
                    "error": 0.03 * numbers[i],
                    "obtained": "printed",
                }
            )
    for k, value in ((0, 81.1), (100, 64.5), (500, 19.2), (1000, 5.3), (2000, 1.5), (10000, 0.1)):
        rows.append(
            {
                **common,
                "figure": "LMC Fig. 3",
                "experiment": "resnet20-standard",
                "branch": "dense",
                "k": k,
                "density": 1.0,
                "comparison": "data_order",
                "measure": "instability_test",
                "value": value,
            }
        )
    return pd.DataFrame(rows)


def record(name: str, kind: str, experiment: str, seconds: float, share: float, steps: int) -> dict[str, Any]:
    """A stage's record, with the keys that the workflow writes."""
    found = {
        "stage": name,
        "kind": kind,
        "experiment": experiment,
        "digest": "74a291" if experiment else "",
        "inputs": {},
        "outputs": {},
        "started": 1795398406.0,
        "finished": 1795398406.0 + seconds,
        "seconds": seconds,
        "training_seconds": seconds * share,
        "steps": steps,
        "threads": 1,
        "peak_memory_mib": 610 + steps // 1000,
    }
    if kind == "stability":
        found["pairs"] = 22
    elif experiment:  # a job that was stopped and taken up again trained longer than its last pass
        found["network_seconds"] = seconds * share + 30
        found["invariants"] = ["number of steps", *(["masks nest"] if kind == "levels" else [])]
    return found


def provenance() -> dict[str, Any]:
    """Two groups of replicates in each experiment, and a job per rewind iteration."""
    stages = [
        record(f"{name}/c{group}/{job}", kind, name, seconds, share, steps)
        for name in SETTINGS
        for group in (0, 1)
        for job, kind, seconds, share, steps in (
            ("dense", "dense", 80.0, 0.97, 9000),
            ("orders", "orders", 80.0, 0.97, 9000),
            ("k0-L1-5", "levels", 200.0, 0.96, 28000),
            ("k0-branches", "branches", 100.0, 0.96, 14000),
            ("stability", "stability", 20.0, 0.0, 0),
        )
    ]
    stages += [record(f"prepare/{name}", "prepare", "", 2.0, 0.0, 0) for name in ("digits", "mnist1d")]
    return {
        "harness_version": "0.1.0",
        "code_revision": "1f2e3d4c5b6a",
        "tree_clean": True,
        "scale": "mini",
        "paper": "stabilizing-lth",
        "packages": {"torch": "2.4.1", "numpy": "2.0.1", "pandas": "2.2.2"},
        "stages": stages,
        "hardware": {"cpu": "x86-64, 2.6 GHz", "cores": 2, "memory_gib": 8, "gpu": "", "platform": "Linux"},
        "wall_clock_seconds": 2710.0,
        "network_core_seconds": 4630.0,
        "training_share": 0.93,
        "started": "2026-11-23T01:00:00+00:00",
        "finished": "2026-11-23T01:45:10+00:00",
    }
