"""The branches, a file each: how a subnetwork is made at a level. The file's name is the branch's name."""

from harness.base.registry import members
from harness.lottery.branch import Branch

BRANCHES: dict[str, Branch] = members(__name__, __path__, "BRANCH")
