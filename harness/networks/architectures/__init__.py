"""The architectures, one file each. A file's NETWORKS maps the names of networks to the class and its options."""

from typing import Any

from harness.base.registry import members

_FILES = members(__name__, __path__, "NETWORKS")
#: name of a network -> its class and options
NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    name: definition for networks in _FILES.values() for name, definition in networks.items()
}
#: name of a network -> the file that defines it
HOMES: dict[str, str] = {name: f"{__name__}.{file}" for file, networks in _FILES.items() for name in networks}
