"""`harness compare`: what changed between two runs, beyond the noise of replicates."""
