"""metrics.json says of every claim what claims.json says, in a form that DVC can read."""

from dvc.repo.metrics.show import _extract_metrics

from harness.claims.metrics import metrics
from tests.claims.tables import DIFFERENCE, GOOD, judged

FIRST = judged(GOOD, DIFFERENCE)
CLAIMS = [
    FIRST.model_copy(update={"id": name, "verdict": verdict, "estimate": estimate})
    for name, verdict, estimate in (("C1", "supported", 1.5), ("C2", "supported", -0.0), ("C3", "not tested", None))
]


def test_dvc_reads_all_of_it():
    found = metrics(CLAIMS)
    assert _extract_metrics(found, "metrics.json") == found
    assert found["verdicts"] == {"supported": 2, "contradicted": 0, "inconclusive": 0, "not tested": 1}
    assert found["claims"] == {
        "C1": {"verdict": "supported", "estimate": 1.5},
        "C2": {"verdict": "supported", "estimate": 0.0},
        "C3": {"verdict": "not tested"},
    }
    objects = [claim.model_dump(mode="json") for claim in CLAIMS]
    assert _extract_metrics(objects, "claims.json") is None  # why the list itself does not serve
