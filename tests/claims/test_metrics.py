"""metrics.json says of every claim what claims.json says, in a form that DVC can read."""

from dvc.repo.metrics.show import _extract_metrics

from harness.claims.metrics import metrics

CLAIMS = [
    {"id": "C1", "verdict": "supported", "estimate": 1.5},
    {"id": "C2", "verdict": "supported", "estimate": -0.0},
    {"id": "C3", "verdict": "not tested", "estimate": None},
]


def test_dvc_reads_all_of_it():
    found = metrics(iter(CLAIMS))
    assert _extract_metrics(found, "metrics.json") == found
    assert found["verdicts"] == {"supported": 2, "contradicted": 0, "inconclusive": 0, "not tested": 1}
    assert found["claims"] == {
        "C1": {"verdict": "supported", "estimate": 1.5},
        "C2": {"verdict": "supported", "estimate": 0.0},
        "C3": {"verdict": "not tested"},
    }
    assert _extract_metrics(CLAIMS, "claims.json") is None  # why the list itself does not serve
