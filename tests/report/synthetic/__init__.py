"""A made-up run with everything that the report is built from."""

from tests.report.synthetic.claims import changed, claims
from tests.report.synthetic.paper import paper, provenance, published, scale
from tests.report.synthetic.run import SETTINGS, make

__all__ = ["SETTINGS", "changed", "claims", "make", "paper", "provenance", "published", "scale"]
