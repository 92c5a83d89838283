"""The criteria, one file each: the scores by which pruning ranks weights. The file's name is the criterion's name."""

from harness.base.registry import members
from harness.lottery.branch import Criterion

CRITERIA: dict[str, Criterion] = members(__name__, __path__, "CRITERION")
