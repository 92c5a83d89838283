"""benchmarks/gpu_day.py goes through on a CPU, keeps to its time, and tells what fails."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu_day
from harness import kernels
from harness.base.errors import HarnessError

SIZES = {"train": 256, "test": 64}


@pytest.fixture(autouse=True)
def _torch_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_ROOT", str(gpu_day.checkout().resolve()))
    monkeypatch.chdir(tmp_path)
    with kernels.without():
        yield


def pictures(*_):
    x = {split: torch.randn(size, 3, 8, 8) for split, size in SIZES.items()}
    y = {split: torch.arange(size) % 10 for split, size in SIZES.items()}
    return SimpleNamespace(x=x, y=y, input_shape=(3, 8, 8), classes=10)


def said(capsys, *names, minutes=9.0):
    gpu_day.run(gpu_day.Day(minutes, True, "cifar10"), list(names))
    return capsys.readouterr().out.splitlines()


def test_accuracies_of_both_precisions_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(gpu_day.data, "prepare", lambda *_: None)
    monkeypatch.setattr(gpu_day.data, "load", pictures)
    *_, verdict, _ = said(capsys, "accuracy")
    # on a CPU both are float32: the difference is exactly 0
    assert verdict == (
        "accuracy: TF32 less float32: +0.00 to +0.00 points (90%, 2 replicates): equivalent at 0.5 points"
    )


def test_missing_pictures_and_a_failure_are_findings_and_time_is_kept(monkeypatch, capsys):
    def missing(*_):
        raise HarnessError("cifar10: no files")

    monkeypatch.setattr(gpu_day.data, "prepare", missing)
    monkeypatch.setattr(gpu_day, "matrix_rate", lambda *_: 1 / 0)
    lines = said(capsys, "machine", "accuracy")
    assert "accuracy: not measured: cifar10: no files" in lines
    assert "machine: FAILED: ZeroDivisionError: division by zero" in lines
    assert said(capsys, "machine", minutes=0.0) == ["-- machine: 0 s; no time for the rest"]


@pytest.mark.slow
def test_every_other_section_goes_through(monkeypatch, capsys):
    monkeypatch.setattr(gpu_day, "IMAGENET", ("squeezenet",))
    lines = said(capsys, *(section.__name__ for section in gpu_day.SECTIONS[:-1]))
    assert not [line for line in lines if "FAILED" in line or "OTHER" in line or "not measured" in line]
    assert len([line for line in lines if line.startswith("-- ")]) == len(gpu_day.SECTIONS) - 1
