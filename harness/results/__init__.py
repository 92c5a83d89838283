"""What lies on disk: a run's files, the digests that identify it, and whether they still fit."""
