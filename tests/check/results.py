"""Results of imagined runs, as small as a comparison needs."""

from typing import Any

from harness.base.files import digest
from harness.check.baseline import Baseline, Calibration, ClaimResult, Rows

HERE = ["one kind of processor, avx2 kernels, torch 2.14, numpy 2.4"]
ELSEWHERE = ["another kind of processor, avx512 kernels, torch 2.14, numpy 2.4"]


def claim(verdict: str = "supported", numbers: str = "", prediction: str = "") -> ClaimResult:
    estimate = None if verdict == "not tested" else 1.5
    return ClaimResult.model_validate(
        {
            "verdict": verdict,
            "estimate": estimate,
            "interval": None if estimate is None else (1.25, None),
            "replicates": 5,
            "prediction": digest(prediction),
            "numbers": digest(numbers),
        }
    )


def calibration(value: float | None = 98.0, band: tuple[float, float] | None = (96.0, 100.0)) -> Calibration:
    return Calibration(value=value, band=band)


def rows(rows: str = "", values: str = "", curves: str = "", networks: int = 10) -> Rows:
    return Rows(networks=networks, pairs=4, rows=digest(rows), values=digest(values), curves=digest(curves))


def results(**changes: Any) -> Baseline:
    """A run at a judging scale with one supported, one inconclusive and one contradicted claim."""
    fields: dict[str, Any] = {
        "paper": "stabilizing-lth",
        "scale": "mini",
        "judges_claims": True,
        "code": {"training": digest("code")},
        "machines": HERE,
        "claims": {"C1": claim(), "C2": claim("inconclusive"), "C10": claim("contradicted")},
        "calibration": {"lenet.test_accuracy": calibration()},
        "tables": {"lenet": rows()},
    }
    return Baseline(**fields | changes)
