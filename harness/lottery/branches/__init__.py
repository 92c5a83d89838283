"""The branches, one file each: the ways to make a subnetwork at a level. The file's name is the branch's name."""

from harness.base.registry import members
from harness.lottery.branch import Branch

BRANCHES: dict[str, Branch] = members(__name__, __path__, "BRANCH")
