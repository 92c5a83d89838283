"""Judges claims on the tidy table: intervals over replicates, verdicts, reasons."""
