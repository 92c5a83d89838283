"""The branches, one file each: the ways to make a subnetwork at a level. The file's name is the branch's name."""

from harness.base.registry import members
from harness.base.words import clean
from harness.lottery.branch import Branch
from harness.lottery.criteria import CRITERIA

BRANCHES: dict[str, Branch] = members(__name__, __path__, "BRANCH")


def keeps_units(name: str, criterion: str) -> bool:
    """Whether a branch keeps whole units: of its own, or because the level's criterion does, whose masks it has."""
    branch = BRANCHES[name]
    pruner = BRANCHES[branch.of] if branch.source == "mask" else branch
    return pruner.units or (pruner.source != "dense" and CRITERIA[criterion].units)


def label(name: str) -> str:
    """A branch's label on pages; the name of a branch that this version lacks."""
    return BRANCHES[name].label if name in BRANCHES else clean(name)
