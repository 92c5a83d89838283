"""Reproduces a paper's experiments and gives each of its claims a verdict."""

__version__ = "0.1.0"
