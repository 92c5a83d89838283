"""The collect stage: the tidy table, all curves, and the record of what was run, on what, for how long."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch

from harness import __version__
from harness.analysis.table import tidy
from harness.files import read_json, write_atomically, write_json
from harness.plan import all_runs, stages
from harness.spec import Spec
from harness.training.store import Store
from harness.workflow.clock import wall_clock_seconds
from harness.workflow.context import Folders

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "safetensors",
    "snakemake",
    "dvc",
    "scikit-learn",
    "mnist1d",
)


def collect_stage(spec: Spec, folders: Folders) -> None:
    """Write table.parquet, curves.parquet and provenance.json."""
    store = Store(folders.runs)
    compared = [stage.name for stage in stages(spec) if stage.kind == "stability"]
    table = tidy(
        (store.read(run.id) for run in all_runs(spec)), [pd.read_parquet(folders.pairs(name)) for name in compared]
    )
    parts = [pd.read_parquet(folders.curves(name)) for name in compared]
    curves = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    write_atomically(folders.table, lambda path: table.to_parquet(path, index=False))
    write_atomically(folders.all_curves, lambda path: curves.to_parquet(path, index=False))
    write_json(folders.provenance, provenance(spec, folders))


def provenance(spec: Spec, folders: Folders) -> dict[str, Any]:
    """What produced a run: code, packages, hardware, and each stage's seconds, steps and memory."""
    names = [stage.name for stage in stages(spec)]
    names += [f"prepare/{name}" for name in sorted({setting.data for setting in spec.scale.experiments.values()})]
    records = [read_json(folders.stage(name)) for name in names]
    started = min(record["started"] for record in records)
    finished = max(record["finished"] for record in records)
    training = sum(record["training_seconds"] for record in records)
    seconds = sum(record["seconds"] for record in records)
    return {
        **environment(),
        "paper": spec.paper.id,
        "scale": spec.scale_name,
        "started": _iso(started),
        "finished": _iso(finished),
        # a plain run of the workflow engine keeps no clock: then the time in which any stage ran
        "wall_clock_seconds": wall_clock_seconds(folders) or _union([(r["started"], r["finished"]) for r in records]),
        "network_core_seconds": sum(record.get("network_seconds", record["training_seconds"]) for record in records),
        "training_share": training / seconds if seconds else 0.0,
        "stages": records,
    }


def environment() -> dict[str, Any]:
    """Code revision, packages and hardware of this process."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    revision, clean = code_revision(Path(__file__).parent)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "harness_version": __version__,
        "code_revision": revision,
        "tree_clean": clean,
        "packages": {"python": platform.python_version(), **versions},
        "hardware": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": gpu,
            "platform": platform.platform(terse=True),
        },
    }


def cpu_model() -> str:
    """The processor's name, as the system gives it."""
    with contextlib.suppress(OSError):
        for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def code_revision(folder: Path) -> tuple[str, bool | None]:
    """The git commit of a folder and whether its tree is clean; ("", None) where git can't tell."""

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return result.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), not git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "", None


def _union(spans: list[tuple[float, float]]) -> float:
    """Length of the union of time spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
