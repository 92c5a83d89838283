"""What a check runs: the scale, or where that trains fewer networks, what the supported claims need of it."""

from harness.budget import judged, parse_claims
from harness.check.baseline import Baseline
from harness.plan import all_runs
from harness.spec import Spec
from harness.workflow.context import Folders
from harness.workflow.reuse import remaining, stored, trained_as
from harness.workflow.selection import as_selected


def selection(spec: Spec, folders: Folders, before: Baseline, claims: str) -> list[str] | None:
    """The claims to run, None for the whole scale. They are run with every replicate of the scale, as the baseline was.

    Those of `claims`, if it names any. Else those that the baseline supports, if the whole would train more networks
    than they and if their experiments have every calibration value that the baseline has.
    """
    if claims:
        return parse_claims(claims, spec)
    supported = [name for name in judged(spec) if name in before.supported]
    if not supported:
        return None
    part = as_selected(spec, supported, every_replicate=True)
    calibrated = {name for name, one in before.calibration.items() if one.fits and name in spec.scale.experiments}
    if not calibrated <= set(part.scale.experiments):
        return None
    return supported if missing(part, folders) < missing(spec, folders) else None


def missing(spec: Spec, folders: Folders) -> int:
    """How many networks a run of the scale would train now."""
    return len(remaining(all_runs(spec), trained_as(spec, folders), stored(spec, folders)))
