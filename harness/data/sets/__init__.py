"""The data sets, a file each. A file's SOURCES maps the names of data sets to where they come from."""

from harness.base.registry import members
from harness.data.source import Source

FILES: dict[str, dict[str, Source]] = members(__name__, __path__, "SOURCES")
