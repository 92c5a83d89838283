"""The verdicts as numbers: what `dvc metrics show` and `dvc metrics diff` print, which read no list."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from harness.claims.verdicts import VERDICTS


def metrics(claims: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Verdicts counted, and of each claim its verdict and, where it was judged, its estimate."""
    claims = list(claims)
    found = Counter(claim["verdict"] for claim in claims)
    return {
        "verdicts": {verdict: found[verdict] for verdict in VERDICTS},
        "claims": {
            claim["id"]: {
                "verdict": claim["verdict"],
                **({"estimate": claim["estimate"]} if claim["estimate"] is not None else {}),
            }
            for claim in claims
        },
    }
