"""A run on disk: its files, the digests that identify it, and whether both still match the code."""
