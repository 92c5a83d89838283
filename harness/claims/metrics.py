"""The verdicts as numbers: for `dvc metrics show` and `dvc metrics diff`, which can't read lists."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.claims.document import VERDICTS, ClaimVerdict


def metrics(claims: Sequence[ClaimVerdict]) -> dict[str, Any]:
    """The number of claims by verdict, and each claim's verdict and, if it has one, its size and its estimate."""
    count = Counter(claim.verdict for claim in claims)
    return {
        "verdicts": {verdict: count[verdict] for verdict in VERDICTS},
        "claims": {
            claim.id: {
                "verdict": claim.verdict,
                **({"size": claim.size} if claim.size is not None else {}),
                **({"estimate": claim.estimate} if claim.estimate is not None else {}),
            }
            for claim in claims
        },
    }
