"""Small tidy tables for the tests, row by row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.claims.document import ClaimVerdict
from harness.claims.judge import judge
from harness.claims.table import TestSet
from harness.paper.claims import Claim
from harness.paper.columns import TABLE_COLUMNS, TEXT
from harness.paper.models import Gauge

COLUMNS = list(TABLE_COLUMNS)


def network(
    branch: str = "dense", replicate: int = 0, experiment: str = "lenet", k: int = 0, **more: Any
) -> dict[str, Any]:
    """A network's row; subnetworks are at level 5, density 0.64 ** 5, unless told."""
    level = more.pop("level", 0 if branch == "dense" else 5)
    order = more.get("data_order", 0)
    run = f"{experiment}/r{replicate}/k{k}/L{level}/{branch}/o{order}"
    row = dict.fromkeys(COLUMNS, np.nan) | dict.fromkeys(TEXT, "")
    base = {"row": "network", "experiment": experiment, "replicate": replicate, "branch": branch, "k": k}
    base |= {
        "level": level,
        "density": 0.64**level,
        "data_order": order,
        "data_order_b": -1,
        "run": run,
        "status": "ok",
    }
    return row | base | more


def pair(branch: str = "imp", replicate: int = 0, experiment: str = "lenet", k: int = 0, **more: Any) -> dict[str, Any]:
    """A compared pair's row, by default two data orders."""
    row = network(branch, replicate, experiment, k, **more)
    other = int(more.get("data_order_b", 1))
    return row | {
        "row": "pair",
        "comparison": more.get("comparison", "data_order"),
        "data_order_b": other,
        "run_b": row["run"].replace("/o0", f"/o{other}"),
    }


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


def claim(*parts: dict[str, Any], scale: str = "mini", replicates: int = 3, **more: Any) -> Claim:
    """A claim with the given parts at one scale."""
    named = [{"name": f"part {i}"} | part for i, part in enumerate(parts)]
    entry = {"replicates": replicates, "prediction": "a prediction", "parts": named}
    if "combine" in more:
        entry["combine"] = more.pop("combine")
    base = {
        "id": "C1",
        "title": "a title",
        "statement": "A statement.",
        "source": {"where": "Fig. 2", "obtained": "printed"},
        "scales": {scale: entry},
    }
    return Claim.model_validate(base | more)


IMP: dict[str, Any] = {"experiment": "lenet", "branch": "imp", "k": 0, "density": 0.107}
RANDOM: dict[str, Any] = IMP | {"branch": "random_prune"}
DENSE: dict[str, Any] = {"experiment": "lenet", "branch": "dense"}
DIFFERENCE: dict[str, Any] = {
    "statistic": "difference",
    "measure": "test_accuracy",
    "a": IMP,
    "b": DENSE,
    "region": [-0.5, None],
}
RATIO: dict[str, Any] = {
    "statistic": "ratio",
    "measure": "distance",
    "a": RANDOM | {"comparison": "data_order"},
    "b": IMP | {"comparison": "data_order"},
    "region": [1.0, None],
}
TREND: dict[str, Any] = {
    "statistic": "trend",
    "measure": "distance",
    "a": {"experiment": "lenet", "branch": "imp", "density": 0.107, "comparison": "data_order"},
    "over": [0, 20, 100],
    "region": [None, 0],
}
ONSET: dict[str, Any] = {
    "statistic": "onset",
    "measure": "instability_test",
    "a": {"experiment": "lenet", "branch": "dense", "comparison": "data_order"},
    "over": [0, 20, 100],
    "threshold": 2.0,
    "region": [None, 20],
}


MEDIAN: dict[str, Any] = {
    "statistic": "median",
    "measure": "instability_test",
    "a": {"experiment": "lenet", "branch": "dense", "k": 0, "comparison": "data_order"},
    "region": [None, 2.0],
}


def accuracies(imp: list[float], dense: list[float], experiment: str = "lenet") -> pd.DataFrame:
    """A table of one IMP and one dense network per replicate."""
    rows = [network("imp", r, experiment, test_accuracy=v) for r, v in enumerate(imp)]
    rows += [network("dense", r, experiment, test_accuracy=v) for r, v in enumerate(dense)]
    return table(*rows)


GOOD = accuracies([98.31, 98.12, 98.24], [98.03, 98.05, 98.11])


def judged(
    rows: pd.DataFrame,
    *parts: dict[str, Any],
    bands: dict[str, dict[Gauge, tuple[float, float]]] | None = None,
    tested: int = 0,
    **more: Any,
) -> ClaimVerdict:
    """The one claim's verdict. `tested`: examples in LeNet's test set, where its size is known."""
    (result,) = judge(
        [claim(*parts, **more)], "mini", rows, bands or {}, test_sets={"lenet": TestSet(tested, 10)} if tested else {}
    )
    return result


def verdict(rows: pd.DataFrame, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The one claim's object as claims.json has it; every result must survive JSON."""
    typed = judged(rows, *parts, **more)
    result = typed.model_dump(mode="json")
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert ClaimVerdict.model_validate(result) == typed
    return result


def distances(imp: list[float], random: list[float]) -> pd.DataFrame:
    return table(
        *(pair("imp", r, distance=v) for r, v in enumerate(imp)),
        *(pair("random_prune", r, distance=v) for r, v in enumerate(random)),
    )


def curves(*instabilities: Sequence[float], branch: str = "dense") -> list[dict[str, Any]]:
    """Rows of pairs over k = 0, 20, 100: one list per replicate."""
    return [
        pair(branch, r, k=k, instability_test=v)
        for r, curve in enumerate(instabilities)
        for k, v in zip((0, 20, 100), curve, strict=True)
    ]
