"""Published runs: the references in git, and docs/reproduction.md, which holds them against the papers."""
