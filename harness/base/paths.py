"""Paths of the checkout that holds papers/, and of a run's folder below results/."""

from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.variables import variable, variables

OWN = Path(__file__).parents[2]  # the checkout of an editable install
RESULTS = Path("results")  # below a checkout: where results lie unless another folder is named
REFERENCE = Path("reference")  # below a checkout: published runs, laid out as results are
CHECK = ".check"  # below a results folder: where `harness check` works


def checkout() -> Path:
    """The folder that holds papers/: HARNESS_ROOT, the working directory or a parent, or this package's checkout.

    Raises HarnessError if there is none, and for a HARNESS_ROOT that is none.
    """
    chosen = variables().root
    if chosen:
        if not (Path(chosen) / "papers").is_dir():
            raise HarnessError(f"{variable('root')}={chosen}: holds no folder papers/; name a checkout of this project")
        return Path(chosen)
    folder = _around() or OWN
    if not (folder / "papers").is_dir():
        raise HarnessError(
            f"no folder papers/ here: run from a checkout of this project, or set {variable('root')} to one"
        )
    return folder


def elsewhere() -> Path | None:
    """The checkout that is used although the working directory is in none: that of an editable install."""
    return None if variables().root or _around() else checkout()


def _around() -> Path | None:
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "papers").is_dir()), None)


def results_folder(results: Path, paper: str, scale: str) -> Path:
    """The folder of a run: results/<paper>/<scale>."""
    return results / paper / scale


def references(root: Path) -> list[tuple[str, str]]:
    """The papers and scales that a checkout has a published run of."""
    return sorted((path.parent.parent.name, path.parent.name) for path in (root / REFERENCE).glob("*/*/card.json"))


def other_results(results: Path, root: Path, paper: str, scale: str) -> tuple[Path, ...]:
    """The folders of every other scale of every paper below `root`, which may hold runs of equal settings.

    The results that `harness check` trained for this run are included.
    """
    runs = [(path.parent.parent.name, path.stem) for path in sorted(root.glob("papers/*/scales/*.yaml"))]
    others = [results_folder(results, *run) for run in runs if run != (paper, scale)]
    return (*others, *([] if results.name == CHECK else [results_folder(results / CHECK, paper, scale)]))
