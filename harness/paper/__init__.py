"""Typed, validated view of papers/: the only reader of that YAML."""

from harness.paper.load import Spec, load_spec

__all__ = ["Spec", "load_spec"]
