"""Claims judged on the tidy table: intervals over replicates, verdicts, reasons."""

from harness.claims.judge import chance_flips, judge, read_claims, write_claims

__all__ = ["chance_flips", "judge", "read_claims", "write_claims"]
