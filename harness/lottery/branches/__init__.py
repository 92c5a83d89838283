"""The branches, one file each: the ways to make a subnetwork at a level. The file's name is the branch's name."""

from harness.base.registry import members
from harness.base.words import clean
from harness.lottery.branch import Branch

BRANCHES: dict[str, Branch] = members(__name__, __path__, "BRANCH")


def label(name: str) -> str:
    """A branch's label on pages; the name of a branch that this version lacks."""
    return BRANCHES[name].label if name in BRANCHES else clean(name)
