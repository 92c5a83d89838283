"""The choice of a device, with and without GPUs."""

import pytest
import torch

from harness.base.errors import HarnessError
from harness.training.device import CHOICE, pick


@pytest.fixture
def gpus(monkeypatch):
    def have(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


@pytest.mark.parametrize(
    ("count", "choice", "device"),
    [(0, "", "cpu"), (0, "cpu", "cpu"), (2, "", "cuda"), (2, "cpu", "cpu"), (2, "cuda:1", "cuda:1")],
)
def test_a_gpu_is_taken_if_there_is_one_and_nothing_else_is_asked_for(gpus, monkeypatch, count, choice, device):
    gpus(count)
    monkeypatch.setenv(CHOICE, choice or "auto")
    assert pick() == torch.device(device)


@pytest.mark.parametrize("choice", ["cuda", "cuda:2", "tpu", "cuda:x", "cpu:1"])
def test_a_device_that_is_not_there_is_one_line(gpus, monkeypatch, choice):
    gpus(2 if choice == "cuda:2" else 0)
    monkeypatch.setenv(CHOICE, choice)
    with pytest.raises(HarnessError, match=f"^HARNESS_DEVICE={choice}: [^\n]*$"):
        pick()
