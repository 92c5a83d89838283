"""A seeded, made-up run shaped like the mini scale: its tidy table and curves."""

from typing import Any

import numpy as np
import pandas as pd

from harness.report import estimates

LEVELS = (1, 2, 3, 4, 5)
DENSITY = {0: 1.0, 1: 0.64, 2: 0.4096, 3: 0.26214, 4: 0.16777, 5: 0.10737}
# stable: share of stability per k; distances: data order and pruning, each IMP then random
SETTINGS: dict[str, dict[str, Any]] = {
    "lenet": {
        "title": "LeNet-300-100",
        "data": "digits",
        "network": "lenet-300-100",
        "steps": 2000,
        "ks": (0, 20, 100, 400, 1000),
        "n": 5,
        "dense": 98.5,
        "stable": (1, 1, 1, 1, 1),
        "random": 1.2,
        "distances": (0.56, 8.0, 7.4, 16.6),
        "barrier": 0.2,
    },
    "resnet20-standard": {
        "title": "ResNet-20, standard learning rate",
        "data": "mnist1d-hard",
        "network": "resnet20-1d",
        "steps": 3000,
        "ks": (0, 50, 150, 600),
        "n": 3,
        "dense": 90.2,
        "stable": (0, 0.7, 0.99, 1),
        "random": 1.2,
        "distances": (8.0, 17.5, 14.0, 17.0),
        "barrier": 45.0,
    },
    "resnet20-low": {
        "title": "ResNet-20, low learning rate",
        "data": "mnist1d-hard",
        "network": "resnet20-1d",
        "steps": 3000,
        "ks": (0,),
        "n": 3,
        "dense": 86.3,
        "stable": (1,),
        "random": 3.4,
        "distances": (2.9, 7.7, 5.8, 7.8),
        "barrier": 1.2,
    },
    "resnet20-warmup": {
        "title": "ResNet-20, learning-rate warm-up",
        "data": "mnist1d-hard",
        "network": "resnet20-1d",
        "steps": 3000,
        "ks": (0,),
        "n": 3,
        "dense": 88.1,
        "stable": (1,),
        "random": 3.2,
        "distances": (3.7, 12.0, 8.0, 12.1),
        "barrier": 2.0,
    },
}


def make(seed: int = 0, replicates: int | None = None, diverged: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(table, curves) as the contract of the tidy table describes them."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for name, setting in SETTINGS.items():
        for replicate in range(replicates or setting["n"]):
            _replicate(rng, name, setting, replicate, rows, curves)
    table = estimates.complete(pd.DataFrame(rows), estimates.COLUMNS)
    if diverged:
        hit = (
            (table["experiment"] == "resnet20-standard")
            & (table["branch"] == "random_reinit")
            & (table["replicate"] == 1)
            & (table["k"] == 50)
        )
        table.loc[hit, "status"] = "diverged"
        table.loc[hit, ["test_accuracy", "train_accuracy"]] = np.nan
    return table, pd.DataFrame(curves)


def _replicate(
    rng: np.random.Generator, name: str, s: dict[str, Any], r: int, rows: list[Any], curves: list[Any]
) -> None:
    offset = rng.normal(0, 0.25)

    def network(branch: str, k: int, level: int, order: int, accuracy: float) -> str:
        run = f"{name}/r{r}/k{k}/L{level}/{branch}/o{order}"
        accuracy = min(accuracy + offset + rng.normal(0, 0.2), 99.6)
        rows.append(
            {
                "row": "network",
                "experiment": name,
                "replicate": r,
                "branch": branch,
                "k": k,
                "level": level,
                "density": DENSITY[level],
                "data_order": order,
                "data_order_b": -1,
                "run": run,
                "status": "ok",
                "test_accuracy": accuracy,
                "train_accuracy": min(accuracy + 4, 100.0),
                "test_loss": 1 - accuracy / 100,
                "train_loss": 0.1,
                "steps": s["steps"] - k,
                "seconds": 9.0,
            }
        )
        return run

    def pair(
        a: str, b: str, branch: str, k: int, level: int, comparison: str, distance: float, barrier: float | None
    ) -> None:
        distance *= float(np.exp(rng.normal(0, 0.05)))
        row = {
            "row": "pair",
            "experiment": name,
            "replicate": r,
            "branch": branch,
            "k": k,
            "level": level,
            "density": DENSITY[level],
            "data_order": 0,
            "data_order_b": 1 if comparison == "data_order" else 0,
            "comparison": comparison,
            "run": a,
            "run_b": b,
            "status": "ok",
            "distance": distance,
            "angle": min(89.0, 12 + distance * 4),
        }
        if barrier is not None:
            height = max(barrier * float(np.exp(rng.normal(0, 0.3))), -0.1)
            row |= {
                "instability_test": height,
                "instability_train": height * 1.1,
                "instability_test_reestimated": height * 0.4,
                "instability_train_reestimated": height * 0.4,
            }
            ends = 100 - s["dense"]
            for kind, share in (("averaged", 1.0), ("re-estimated", 0.4)):
                for split in ("test", "train"):
                    for alpha in np.linspace(0, 1, 30):
                        error = ends + share * height * (4 * alpha * (1 - alpha)) ** 2
                        curves.append(
                            {"run": a, "run_b": b, "batch_norm": kind, "split": split, "alpha": alpha, "error": error}
                        )
        rows.append(row)

    dense = network("dense", 0, 0, 0, s["dense"])
    near, far, near_p, far_p = s["distances"]
    for k, stable in zip(s["ks"], s["stable"], strict=True):
        other = network("dense", k, 0, 1, s["dense"])
        early = max(0.0, 1 - 12 * k / s["steps"])
        pair(
            dense,
            other,
            "dense",
            k,
            0,
            "data_order",
            far * 1.5,
            (s["barrier"] * 1.6 * early if stable < 1 or k == 0 else 0) + 0.2,
        )
        levels = LEVELS if (k in (0, 150) or name == "lenet") else LEVELS[:4]
        for level in levels:
            lost = (1 - stable) * 0.45 * level + max(0, level - 4) * 0.3 - 0.2 * stable
            imp = network("imp", k, level, 0, s["dense"] - lost)
            if level < 4:
                continue
            second = network("imp", k, level, 1, s["dense"] - lost)
            barrier = (1 - stable) * 13 + 0.15
            pair(imp, second, "imp", k, level, "data_order", near * stable + far * (1 - stable), barrier)
            pair(dense, imp, "imp", k, level, "pruning", near_p * stable + far_p * (1 - stable), None)
            if level == 5 and len(s["ks"]) == 1:
                continue
            below = s["random"] * (1 + (level - 4) * 0.8) + 0.9 * (1 - stable) - 0.4 * (k > 0)
            random = [network("random_prune", k, level, order, s["dense"] - below) for order in (0, 1)]
            pair(
                random[0],
                random[1],
                "random_prune",
                k,
                level,
                "data_order",
                far * (1 - 0.2 * k / s["steps"]),
                s["barrier"] * 0.6,
            )
            pair(dense, random[0], "random_prune", k, level, "pruning", far_p * (1 - 0.2 * k / s["steps"]), None)
            network("random_reinit", k, level, 0, s["dense"] - below * 0.8)
