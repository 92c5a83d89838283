"""Snakemake alone: rules, jobs, the process that runs a stage, reproduce, adopt and the live view."""
