"""`harness compare` and `harness board`: what changed between two runs, beyond noise, and the verdicts of many."""
