"""Shares a finished run: `harness push` and `pull` through DVC, and tickets for use elsewhere."""
