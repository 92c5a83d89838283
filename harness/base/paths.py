"""Paths of the checkout that holds papers/, and of a run's folder below results/."""

import os
from pathlib import Path

from harness.base.errors import HarnessError

CHECK = ".check"  # below a results folder: where `harness check` trains its runs


def checkout() -> Path:
    """The folder that holds papers/: HARNESS_ROOT, the working directory or a parent, or this package's checkout."""
    candidates = [os.environ.get("HARNESS_ROOT"), Path.cwd(), *Path.cwd().parents, Path(__file__).parents[2]]
    for folder in candidates:
        if folder and (Path(folder) / "papers").is_dir():
            return Path(folder)
    raise HarnessError("no folder papers/ here: run from a checkout of this project, or set HARNESS_ROOT to one")


def results_folder(results: Path, paper: str, scale: str) -> Path:
    """The folder of a run: results/<paper>/<scale>."""
    return results / paper / scale


def other_results(results: Path, root: Path, paper: str, scale: str) -> tuple[Path, ...]:
    """The folders of every other scale of every paper below `root`, which may hold runs of equal settings.

    The results that `harness check` trained for this run are included.
    """
    runs = [(path.parent.parent.name, path.stem) for path in sorted(root.glob("papers/*/scales/*.yaml"))]
    others = [results_folder(results, *run) for run in runs if run != (paper, scale)]
    return (*others, *([] if results.name == CHECK else [results_folder(results / CHECK, paper, scale)]))
