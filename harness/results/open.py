"""Opens the run that a command names: its checked scale and its folders."""

from pathlib import Path

from harness.base.paths import other_results, results_folder
from harness.paper import Spec, load_spec
from harness.results.folders import Folders
from harness.results.selection import as_recorded


def load_scale(root: Path, paper: str, scale: str) -> Spec:
    """A paper at a scale, checked against the available networks and data sets. Raises HarnessError."""
    from harness.plan.settings import check_settings  # it needs PyTorch, which takes seconds

    spec = load_spec(root, paper, scale)
    check_settings(spec)
    return spec


def folders_of(root: Path, results: Path, paper: str, scale: str) -> Folders:
    """The folders of a run below `results`, and those of all other runs there."""
    return Folders(results_folder(results, paper, scale), other_results(results, root, paper, scale))


def open_run(root: Path, results: Path, paper: str, scale: str) -> tuple[Spec, Folders]:
    """A run's scale, reduced to its recorded selection if it has one, and its folders. Raises HarnessError."""
    spec, folders = load_scale(root, paper, scale), folders_of(root, results, paper, scale)
    return as_recorded(spec, folders), folders
