"""Where things are: the checkout with papers/, and a run's folder below results/."""

import os
from pathlib import Path

from harness.errors import HarnessError

FIRST_PAPER = "stabilizing-lth"


def checkout() -> Path:
    """The folder that holds papers/: HARNESS_ROOT, the working directory or one above it, or this package's own."""
    places = [os.environ.get("HARNESS_ROOT"), Path.cwd(), *Path.cwd().parents, Path(__file__).parent.parent]
    for place in places:
        if place and (Path(place) / "papers").is_dir():
            return Path(place)
    raise HarnessError("no folder papers/ here: run from a checkout of this project, or set HARNESS_ROOT to one")


def results_folder(results: Path, paper: str, scale: str) -> Path:
    """results/<scale> for the first paper, results/<paper>/<scale> for any other."""
    return results / scale if paper == FIRST_PAPER else results / paper / scale


def other_results(results: Path, root: Path, paper: str, scale: str) -> tuple[Path, ...]:
    """The folders of every other scale of every paper below `root`, where runs trained alike may lie."""
    found = [(path.parent.parent.name, path.stem) for path in sorted(root.glob("papers/*/scales/*.yaml"))]
    return tuple(results_folder(results, *one) for one in found if one != (paper, scale))
