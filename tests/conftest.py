"""What holds for all tests."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    """Each test starts in the checkout, since a command that runs in this process goes to its run's."""
    monkeypatch.chdir(ROOT)
