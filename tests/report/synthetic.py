"""A seeded, made-up run shaped like the mini scale: table, curves, published values, claims, provenance."""

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
                "validation_accuracy": np.nan,
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
            "calibration": [s["dense"] - 1.5, s["dense"] + 1.5],
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


def provenance() -> dict[str, Any]:
    stages = [
        {
            "stage": stage,
            "experiment": name,
            "seconds": seconds,
            "training_seconds": seconds * share,
            "steps": steps,
            "peak_memory_mib": 610,
            "threads": 1,
        }
        for name in SETTINGS
        for stage, seconds, share, steps in (
            ("dense", 80.0, 0.97, 9000),
            ("level", 300.0, 0.96, 42000),
            ("stability", 20.0, 0.0, 0),
        )
    ]
    return {
        "harness_version": "0.1.0",
        "code_revision": "1f2e3d4c5b6a",
        "tree_clean": True,
        "scale": "mini",
        "paper": "stabilizing-lth",
        "packages": {"torch": "2.4.1", "numpy": "2.0.1", "pandas": "2.2.2"},
        "stages": stages,
        "hardware": {"cpu": "x86-64, 2.6 GHz", "cores": 2, "memory_gib": 8, "gpu": None, "platform": "Linux"},
        "wall_clock_seconds": 2710.0,
        "training_share": 0.93,
        "started": "2026-11-23T01:00:00Z",
        "finished": "2026-11-23T01:45:10Z",
    }


def part(
    table: pd.DataFrame,
    name: str,
    statistic: str,
    measure: str,
    a: dict[str, Any],
    b: dict[str, Any] | None,
    region: list[Any],
) -> dict[str, Any]:
    """A judged part: mean, difference or ratio of two cells, with its t interval and verdict."""
    kind = {"row": "network" if measure.endswith("accuracy") else "pair"}
    cells = [estimates.select(table, **kind, **cell) for cell in (a, b) if cell is not None]
    values = [rows.groupby("replicate")[measure].mean().rename(str(i)) for i, rows in enumerate(cells)]
    both = pd.concat(values, axis=1).dropna().to_numpy()
    if statistic == "ratio":
        both = np.log(both)
    per = both[:, 0] - (both[:, 1] if both.shape[1] > 1 else 0.0)
    mean, low, high = estimates.t_interval(per)
    if statistic == "ratio":
        mean, low, high, per = np.exp(mean), np.exp(low), np.exp(high), np.exp(per)
    floor, ceiling = (-np.inf if region[0] is None else region[0]), (np.inf if region[1] is None else region[1])
    inside, outside = floor <= low and high <= ceiling, high < floor or low > ceiling
    verdict = "supported" if inside else "contradicted" if outside else "inconclusive"
    return {
        "name": name,
        "statistic": statistic,
        "measure": measure,
        "verdict": verdict,
        "reason": "",
        "estimate": float(mean),
        "interval": [float(low), float(high)],
        "region": region,
        "replicates": len(per),
        "values": [float(v) for v in per],
        "runs": sorted(set(pd.concat(cells)["run"])),
    }


def claims(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Thirty-three claims: a third judged from the table, the rest not tested."""
    std, low = {"experiment": "resnet20-standard"}, {"experiment": "resnet20-low"}
    imp = {"branch": "imp", "level": 4, "k": 0}
    random, dense = {"branch": "random_prune", "level": 4, "k": 0}, {"branch": "dense", "level": 0}
    lenet = {"experiment": "lenet"}
    order, pruning = {"comparison": "data_order"}, {"comparison": "pruning"}
    acc = "test_accuracy"
    judged = {
        "C1": (
            "LeNet at k = 0 is a winning ticket",
            "accuracy_density",
            [
                part(
                    table,
                    "IMP at least as accurate as dense",
                    "difference",
                    acc,
                    lenet | imp,
                    lenet | dense,
                    [-0.5, None],
                ),
                part(
                    table,
                    "IMP more accurate than random pruning",
                    "difference",
                    acc,
                    lenet | imp,
                    lenet | random,
                    [0.4, None],
                ),
            ],
        ),
        "C2": (
            "LeNet's ticket is more stable to data order than random pruning",
            "distance",
            [
                part(
                    table,
                    "random over IMP, data-order distance",
                    "ratio",
                    "distance",
                    lenet | random | order,
                    lenet | imp | order,
                    [2.0, None],
                )
            ],
        ),
        "C3": (
            "LeNet's ticket is more stable to pruning",
            "distance",
            [
                part(
                    table,
                    "random over IMP, pruning distance",
                    "ratio",
                    "distance",
                    lenet | random | pruning,
                    lenet | imp | pruning,
                    [1.3, None],
                )
            ],
        ),
        "C4": (
            "The same in angle",
            "angle",
            [
                part(
                    table,
                    "IMP below random, data order",
                    "difference",
                    "angle",
                    lenet | imp | order,
                    lenet | random | order,
                    [None, -5],
                ),
                part(
                    table,
                    "random over IMP, pruning distance",
                    "ratio",
                    "distance",
                    lenet | random | pruning,
                    lenet | imp | pruning,
                    [1.3, None],
                ),
            ],
        ),
        "C6": (
            "ResNet-20 standard at k = 0: no ticket",
            "accuracy_density",
            [
                part(
                    table, "IMP no more accurate than random", "difference", acc, std | imp, std | random, [-0.5, 0.5]
                ),
                part(table, "IMP below dense", "difference", acc, std | imp, std | dense, [None, -1.0]),
            ],
        ),
        "C7": (
            "The same subnetworks are no more stable",
            "distance",
            [
                part(
                    table,
                    "ratio of data-order distances",
                    "ratio",
                    "distance",
                    std | random | order,
                    std | imp | order,
                    [1.3, 1.5],
                )
            ],
        ),
        "C8": (
            "ResNet-20 low: a ticket, and stable",
            "accuracy_density",
            [
                part(table, "IMP matches dense", "difference", acc, low | imp, low | dense, [-0.5, None]),
                part(
                    table,
                    "random over IMP, data-order distance",
                    "ratio",
                    "distance",
                    low | random | order,
                    low | imp | order,
                    [1.5, None],
                ),
                part(
                    table, "IMP stable to data order", "mean", "instability_test", low | imp | order, None, [None, 2.0]
                ),
            ],
        ),
        "C17": (
            "Rewinding to 5% of training makes IMP match the dense network",
            "accuracy_k",
            [
                part(
                    table,
                    "k = 150: at least as accurate as dense",
                    "difference",
                    acc,
                    std | imp | {"k": 150},
                    std | dense,
                    [-0.3, None],
                ),
                part(table, "k = 150 above k = 0", "difference", acc, std | imp | {"k": 150}, std | imp, [1.0, None]),
            ],
        ),
    }
    onset = {
        "name": "first k that is stable from there on",
        "statistic": "onset",
        "measure": "instability_test",
        "verdict": "inconclusive",
        "reason": "",
        "estimate": 150,
        "interval": [50, None],
        "region": [20, 600],
        "replicates": 5,
        "values": [150, 150, 50, 600, None],
        "runs": ["resnet20-standard/r0/k150/L4/imp/o0"],
    }
    judged["C16"] = ("By 5% of training IMP's stability has improved sharply", "instability_k", [onset])
    found = []
    for i in range(1, 34):
        name = f"C{i}"
        title, figure, parts = judged.get(name, (f"Claim {i} at ImageNet scale", "none", []))
        order_of = ["contradicted", "inconclusive", "supported"]
        worst = min(parts, key=lambda p: order_of.index(p["verdict"])) if parts else None
        reason = (
            "needs ImageNet: GPU-days"
            if worst is None
            else {
                "supported": "every part's interval lies inside its region",
                "contradicted": "an interval lies wholly outside its region",
                "inconclusive": "an interval crosses the edge of its region",
            }[worst["verdict"]]
        )
        found.append(
            {
                "id": name,
                "title": title,
                "statement": f"{title}. The paper says so, and this sentence restates it at some length.",
                "source": {"where": "Fig. 2, Fig. 3", "obtained": "printed"},
                "verdict": worst["verdict"] if worst else "not tested",
                "reason": reason,
                "estimate": worst and worst["estimate"],
                "interval": worst and worst["interval"],
                "region": worst and worst["region"],
                "replicates": worst["replicates"] if worst else 0,
                "published": [
                    {
                        "quantity": "IMP accuracy, 10.7% density",
                        "value": 98.3,
                        "error": 0.1,
                        "unit": "%",
                        "obtained": "printed",
                    }
                ],
                "runs": sorted({run for p in parts for run in p["runs"]}),
                "parts": parts,
                "note": None,
                "figure": figure,
                "figure_experiments": ["lenet"],
                "prediction": "the same direction, with room for a smaller network" if parts else None,
            }
        )
    found[5]["note"] = "The paper calls this network Resnet-18; it has the layers of ResNet-20."
    return found
