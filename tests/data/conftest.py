"""A data folder of its own, and small sets in place of the real ones."""

import pytest

from harness import data
from harness.data import archives


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(archives, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(archives, "TIMEOUT", 5.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The data folder, empty."""
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def use(monkeypatch):
    """Put a source in place of the one of that name."""
    return lambda name, source: monkeypatch.setitem(data.SOURCES, name, source)
