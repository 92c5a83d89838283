"""Energy counters, from a folder that stands in for the system's, and the clock that adds them up over passes."""

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from harness.base.errors import HarnessError
from harness.base.files import read_json, write_json
from harness.results import energy
from harness.results.clock import energy_joules, start_clock, stop_clock, wall_clock_seconds
from harness.results.energy import Meter, read_counters, used_joules
from harness.results.folders import Folders

TURN = 262_143_328_850


class Machine:
    """A powercap folder: two packages, memory, and parts that must not be counted twice."""

    def __init__(self, folder):
        self.folder = folder
        for zone, name in (("0", "package-0"), ("0:0", "core"), ("0:1", "dram"), ("1", "package-1"), ("2", "psys")):
            self.set(zone, 0, name)

    def set(self, zone, used, name=None):
        place = self.folder / f"intel-rapl:{zone}"
        place.mkdir(exist_ok=True)
        (place / ".new").write_text(f"{used}\n")  # renamed: a counter is never read half-written
        (place / ".new").rename(place / "energy_uj")
        if name:
            (place / "max_energy_range_uj").write_text(f"{TURN}\n")
            (place / "name").write_text(f"{name}\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    found = Machine(tmp_path)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    monkeypatch.setattr(energy, "_gpus", dict)
    return found


def test_packages_and_memory_are_counted_and_nothing_twice(machine):
    assert set(read_counters()) == {"intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1"}
    before = read_counters()
    for zone, used in (("0", 5_000_000), ("0:0", 4_000_000), ("0:1", 1_000_000), ("1", 250_000), ("2", 9_000_000)):
        machine.set(zone, used)
    assert used_joules(before, read_counters()) == 6.25


def test_a_counter_that_comes_round_goes_on(machine):
    machine.set("0", TURN - 999_999)
    before = read_counters()
    machine.set("0", 500_000)
    assert used_joules(before, read_counters()) == 1.5


def test_what_cant_be_read_is_not_guessed(machine, monkeypatch, tmp_path):
    assert read_counters(tmp_path / "none") is None
    before = read_counters()
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("")
    assert read_counters() is None
    machine.set("1", 0)
    (tmp_path / "intel-rapl:1" / "name").write_text("core")
    assert used_joules(before, read_counters()) is None  # not the same counters
    monkeypatch.setattr(energy, "_gpus", lambda: None)
    assert read_counters() is None


def test_gpus_are_added_and_one_that_was_reset_makes_it_unknown(machine, monkeypatch):
    monkeypatch.setattr(energy, "_gpus", lambda: {"gpu 0": (7_000_000, 0)})
    before = read_counters()
    monkeypatch.setattr(energy, "_gpus", lambda: {"gpu 0": (9_000_000, 0)})
    assert used_joules(before, read_counters()) == 2
    assert used_joules(read_counters(), before) is None


def test_gpus_are_asked_by_the_library_of_their_maker(monkeypatch):
    for name in ("HARNESS_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("torch keeps memory on a GPU from here on"))
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    assert energy._gpus() == {}
    monkeypatch.setenv("HARNESS_DEVICE", "auto")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert energy._gpus() is None
    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: [3, 40][index],
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-12ab": 500}[uuid],
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: handle,  # millijoules
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert energy._gpus() == {"gpu 0": (3_000, 0), "gpu 1": (40_000, 0)}
    monkeypatch.setenv("HARNESS_GPUS", "1,GPU-12ab")  # the jobs' GPUs alone
    assert energy._gpus() == {"gpu 1": (40_000, 0), "gpu GPU-12ab": (500_000, 0)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert energy._gpus() == {"gpu 0": (3_000, 0)}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5")
    assert energy._gpus() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    del library.nvmlDeviceGetTotalEnergyConsumption
    assert energy._gpus() is None


def test_a_meter_adds_up_and_is_lost_for_good():
    readings = iter([{"a": (0, 100)}, {"a": (40, 100)}, {"a": (10, 100)}, None, {"a": (20, 100)}])
    told = []
    meter = Meter(2.0, told.append, lambda: next(readings))
    for expected in (2.0 + 40e-6, 2.0 + 110e-6, None, None):
        meter.look()
        assert meter.joules == (expected if expected is None else pytest.approx(expected, abs=1e-12))
    assert meter.end() is None
    assert told == [2.0]


def test_the_clock_keeps_the_energy_of_all_passes(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "EVERY_SECONDS", 0.01)
    folders = Folders(tmp_path / "run")
    assert energy_joules(folders) is None
    start_clock(folders)
    machine.set("0", 3_000_000)
    end = time.time() + 20
    while energy_joules(folders) != 3.0 and time.time() < end:  # told while the pass goes on
        time.sleep(0.01)
    assert energy_joules(folders) == 3.0
    machine.set("0", 4_000_000)
    stop_clock(folders)
    assert energy_joules(folders) == 4.0
    machine.set("0", 50_000_000)  # between passes
    start_clock(folders)
    machine.set("1", 1_000_000)
    stop_clock(folders)
    assert energy_joules(folders) == 5.0
    assert wall_clock_seconds(folders) > 0


def test_one_pass_that_was_not_measured_leaves_the_whole_unknown(machine, tmp_path, monkeypatch):
    folders = Folders(tmp_path / "run")
    start_clock(folders)
    machine.set("0", 3_000_000)
    stop_clock(folders)
    with monkeypatch.context() as patch:
        patch.setattr(energy, "POWERCAP", tmp_path / "none")
        start_clock(folders)
        stop_clock(folders)
    assert energy_joules(folders) is None
    start_clock(folders)
    stop_clock(folders)
    assert energy_joules(folders) is None


def test_a_clock_of_before_energy_was_kept_goes_on_without(machine, tmp_path):
    folders = Folders(tmp_path / "run")
    write_json(folders.clock, {"earlier_seconds": 12.0, "started": 0.0})
    start_clock(folders)
    stop_clock(folders)
    assert energy_joules(folders) is None
    assert wall_clock_seconds(folders) >= 12.0
    assert read_json(folders.clock)["started"] == 0.0


@pytest.mark.parametrize("text", ["", '{\n "earlier_sec', "{}", "[]", '{"earlier_seconds": "x", "started": 0.0}'])
def test_a_broken_clock_starts_anew_and_its_energy_is_not_known(machine, tmp_path, text):
    folders = Folders(tmp_path / "run")
    folders.base.mkdir()
    folders.clock.write_text(text)
    with pytest.raises(HarnessError, match=r"clock.json: [^\n]*$"):
        wall_clock_seconds(folders)
    start_clock(folders)
    stop_clock(folders)
    assert energy_joules(folders) is None
    assert 0 <= wall_clock_seconds(folders) < 60
