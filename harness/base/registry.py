"""Registries with one file per entry: the modules of a package, and the object that each defines."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import Any


def members(package: str, path: Iterable[str], attribute: str) -> dict[str, Any]:
    """The object called `attribute` in each module of a package, by the module's name. One file adds one entry."""
    names = sorted(module.name for module in pkgutil.iter_modules(path))
    return {name: getattr(import_module(f"{package}.{name}"), attribute) for name in names}
