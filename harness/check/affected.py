"""What a check runs: the whole scale, or only what the supported claims need if that trains fewer networks."""

from harness.check.baseline import Baseline
from harness.paper import Spec
from harness.plan.needs import judged, parse_claims
from harness.plan.runs import all_runs
from harness.results.folders import Folders
from harness.results.selection import as_selected
from harness.results.stored import remaining, stored, trained_as


def selection(spec: Spec, folders: Folders, before: Baseline, claims: str) -> list[str] | None:
    """The claims to run, or None for the whole scale. Each runs with every replicate of the scale, as in the baseline.

    These are the claims named in `claims`. Without any, they are those that the baseline supports, provided that this
    trains fewer networks than the whole scale and loses no calibration value that the baseline has within its band.
    """
    if claims:
        return parse_claims(claims, spec)
    supported = [name for name in judged(spec) if name in before.supported]
    if not supported:
        return None
    part = as_selected(spec, supported, every_replicate=True)
    fit = {name for name, value in before.calibration.items() if value.fits}
    if not fit & _banded(spec) <= _banded(part):
        return None
    return supported if missing(part, folders) < missing(spec, folders) else None


def _banded(spec: Spec) -> set[str]:
    """The calibration values of a scale."""
    return {f"{name}.{measure}" for name, setting in spec.scale.experiments.items() for measure in setting.bands}


def missing(spec: Spec, folders: Folders) -> int:
    """How many networks a run of the scale would train now."""
    return len(remaining(all_runs(spec), trained_as(spec, folders), stored(spec, folders)))
