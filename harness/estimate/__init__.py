"""Estimates what a scale costs on this machine, and chooses claims for a budget."""
