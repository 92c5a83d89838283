"""snip_reinit: SNIP's mask on freshly drawn weights.

Frankle et al. (2021). It is also what SNIP's official code trains (namhoonlee/snip-public, snip/model.py): weights of
another draw than those that it scored.
"""

from harness.lottery.branch import Branch
from harness.lottery.branches import random_reinit

BRANCH = Branch(
    "SNIP, reinitialised",
    random_reinit.start,  # the stored masks are SNIP's here
    source="mask",
    rewinds=False,
    of="snip",
    mask="same",
    weights="fresh",
)
