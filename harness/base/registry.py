"""Registries of which each entry is a file: the modules of a package and what each defines."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import Any


def members(package: str, path: Iterable[str], attribute: str) -> dict[str, Any]:
    """What each module of a package defines under a name, by the module's name: one file adds one entry."""
    names = sorted(module.name for module in pkgutil.iter_modules(path))
    return {name: getattr(import_module(f"{package}.{name}"), attribute) for name in names}
