"""Training: recipe, loop, snapshots, determinism."""
