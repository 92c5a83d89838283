"""The data sets, a file each. A file's SOURCES maps the names of data sets to where they come from."""

from harness.base.registry import members
from harness.data.source import Source

_FILES: dict[str, dict[str, Source]] = members(__name__, __path__, "SOURCES")
#: name of a data set -> where it comes from
SOURCES: dict[str, Source] = {name: source for sources in _FILES.values() for name, source in sources.items()}
#: name of a data set -> the file that defines it
HOMES: dict[str, str] = {name: f"{__name__}.{file}" for file, sources in _FILES.items() for name in sources}
