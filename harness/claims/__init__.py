"""Judges claims on the tidy table: intervals over replicates, verdicts, reasons."""

from harness.claims.document import ClaimVerdict, PartVerdict, read_claims, write_claims
from harness.claims.judge import chance_flips, judge, repeated

__all__ = ["ClaimVerdict", "PartVerdict", "chance_flips", "judge", "read_claims", "repeated", "write_claims"]
