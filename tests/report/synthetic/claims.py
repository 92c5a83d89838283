"""Claims judged on the made-up run, with the statistics that the claims themselves use."""

from typing import Any

import numpy as np
import pandas as pd

from harness.claims.document import ClaimVerdict
from harness.claims.statistics import t_interval
from harness.report import estimates

REASONS = {
    "contradicted": "an interval lies wholly outside its region",
    "inconclusive": "an interval crosses the edge of its region",
    "supported": "every part's interval lies inside its region",
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
    mean, low, high = t_interval([per])
    if statistic == "ratio":
        mean, low, high, per = np.exp(mean), np.exp(low), np.exp(high), np.exp(per)
    floor, ceiling = (-np.inf if region[0] is None else region[0]), (np.inf if region[1] is None else region[1])
    contrast = b is not None
    logs = np.log(per) if statistic == "ratio" else per
    inside, outside = floor <= low and high <= ceiling, high < floor or low > ceiling
    verdict = "supported" if inside else "contradicted" if outside else "inconclusive"
    return {
        "name": name,
        "statistic": statistic,
        "measure": measure,
        "log": statistic == "ratio",
        "verdict": verdict,
        "reason": "",
        "estimate": float(mean),
        "interval": [None if np.isinf(bound) else float(bound) for bound in (low, high)],
        "level": 0.95,
        "with_images": [float(low) - 0.5, float(high) + 0.5] if measure == "test_accuracy" else None,
        "standardised": float(logs.mean() / logs.std(ddof=1)) if contrast else None,
        "above": float((logs > 0).mean()) if contrast else None,
        "needed": None,
        "region": region,
        "replicates": len(per),
        "values": [float(v) for v in per],
        "runs": sorted(set(pd.concat(cells)["run"])),
    }


def judged(table: pd.DataFrame) -> dict[str, tuple[str, str, list[dict[str, Any]]]]:
    """Title, figure and parts of each claim that the run can judge."""
    lenet, low, std = ({"experiment": name} for name in ("lenet", "resnet20-low", "resnet20-standard"))
    imp, random = ({"branch": branch, "level": 4, "k": 0} for branch in ("imp", "random_prune"))
    late, dense = {**imp, "k": 150}, {"branch": "dense", "level": 0}
    order, pruning = {"comparison": "data_order"}, {"comparison": "pruning"}

    def accuracy(name: str, a: dict[str, Any], b: dict[str, Any], *region: float | None) -> dict[str, Any]:
        return part(table, name, "difference", "test_accuracy", a, b, list(region))

    def ratio(name: str, of: dict[str, Any], *region: float | None) -> dict[str, Any]:
        return part(table, name, "ratio", "distance", of | random, of | imp, list(region))

    angle = (lenet | imp | order, lenet | random | order, [None, -5])
    stable = part(table, "IMP stable to data order", "mean", "instability_test", low | imp | order, None, [None, 2.0])
    by_order, by_pruning = "random over IMP, data-order distance", "random over IMP, pruning distance"
    onset = {
        "name": "first k that is stable from there on",
        "statistic": "onset",
        "measure": "instability_test",
        "log": False,
        "verdict": "inconclusive",
        "reason": "",
        "estimate": 150,
        "interval": [50, None],
        "level": 0.9375,
        "with_images": None,
        "standardised": None,
        "above": None,
        "needed": None,
        "region": [20, 600],
        "replicates": 5,
        "values": [150, 150, 50, 600, None],
        "runs": ["resnet20-standard/r0/k150/L4/imp/o0"],
    }
    return {
        "C1": (
            "LeNet at k = 0 is a winning ticket",
            "accuracy_density",
            [
                accuracy("IMP at least as accurate as dense", lenet | imp, lenet | dense, -0.5, None),
                accuracy("IMP more accurate than random pruning", lenet | imp, lenet | random, 0.4, None),
            ],
        ),
        "C2": (
            "LeNet's ticket is more stable to data order than random pruning",
            "distance",
            [ratio(by_order, lenet | order, 2.0, None)],
        ),
        "C3": (
            "LeNet's ticket is more stable to pruning",
            "distance",
            [ratio(by_pruning, lenet | pruning, 1.3, None)],
        ),
        "C4": (
            "The same in angle",
            "angle",
            [
                part(table, "IMP below random, data order", "difference", "angle", *angle),
                ratio(by_pruning, lenet | pruning, 1.3, None),
            ],
        ),
        "C6": (
            "ResNet-20 standard at k = 0: no ticket",
            "accuracy_density",
            [
                accuracy("IMP no more accurate than random", std | imp, std | random, -0.5, 0.5),
                accuracy("IMP below dense", std | imp, std | dense, None, -1.0),
            ],
        ),
        "C7": (
            "The same subnetworks are no more stable",
            "distance",
            [ratio("ratio of data-order distances", std | order, 1.3, 1.5)],
        ),
        "C8": (
            "ResNet-20 low: a ticket, and stable",
            "accuracy_density",
            [
                accuracy("IMP matches dense", low | imp, low | dense, -0.5, None),
                ratio(by_order, low | order, 1.5, None),
                stable,
            ],
        ),
        "C16": ("By 5% of training IMP's stability has improved sharply", "instability_k", [onset]),
        "C17": (
            "Rewinding to 5% of training makes IMP match the dense network",
            "accuracy_k",
            [
                accuracy("k = 150: at least as accurate as dense", std | late, std | dense, -0.3, None),
                accuracy("k = 150 above k = 0", std | late, std | imp, 1.0, None),
            ],
        ),
    }


def claims(table: pd.DataFrame) -> list[ClaimVerdict]:
    """Thirty-three claims: a third judged from the table, the rest not tested."""
    found = judged(table)
    made = [_claim(f"C{i}", *found.get(f"C{i}", (f"Claim {i} at ImageNet scale", "none", []))) for i in range(1, 34)]
    made[5]["note"] = "The paper calls this network Resnet-18; it has the layers of ResNet-20."
    return [ClaimVerdict.model_validate(claim) for claim in made]


def changed(claim: ClaimVerdict, **changes: Any) -> ClaimVerdict:
    """The claim with other values in some fields, validated."""
    return ClaimVerdict.model_validate(claim.model_dump(mode="json") | changes)


def _claim(name: str, title: str, figure: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    worst = min(parts, key=lambda p: list(REASONS).index(p["verdict"])) if parts else None
    printed = {"quantity": "IMP accuracy, 10.7% density", "value": 98.3, "error": 0.1, "unit": "%"}
    return {
        "id": name,
        "title": title,
        "statement": f"{title}. The paper says so, and this sentence restates it at some length.",
        "source": {"where": "Fig. 2, Fig. 3", "obtained": "printed"},
        "verdict": worst["verdict"] if worst else "not tested",
        "reason": REASONS[worst["verdict"]] if worst else "needs ImageNet: GPU-days",
        "size": None,
        "papers_own": True,
        "estimate": worst and worst["estimate"],
        "interval": worst and worst["interval"],
        "level": worst and worst["level"],
        "needed": None,
        "chance": None,
        "region": worst["region"] if worst else [None, None],
        "replicates": worst["replicates"] if worst else 0,
        "left_out": 5 if worst else 0,
        "fragile": [1, 4] if name == "C7" else [],
        "power": {"share": 0.94 if parts else None, "known": len(parts[:1]), "parts": len(parts) or 1},
        "published": [{**printed, "obtained": "printed"}],
        "runs": sorted({run for p in parts for run in p["runs"]}),
        "parts": parts,
        "sizes": [],
        "note": None,
        "figure": figure,
        "figure_experiments": ["lenet"],
        "prediction": "the same direction, with room for a smaller network" if parts else None,
    }
