"""Where papers come from, a checkout or the installed package; and where a run's results lie."""

from pathlib import Path

from harness.base.errors import HarnessError
from harness.base.variables import variable, variables

OWN = Path(__file__).parents[2]  # the checkout of an editable install
SHIPPED = Path(__file__).parents[1] / "shipped"  # in a wheel, by setup.py: papers/ and more, laid out as in a checkout
RESULTS = Path("results")  # below a checkout: where results lie unless another folder is named
REFERENCE = Path("reference")  # below a checkout: published runs, laid out as results are
PAPERS = "papers/*/paper.yaml"  # below a checkout
CHECK = ".check"  # below a results folder: where `harness check` works


def checkout() -> Path:
    """The folder to work in: HARNESS_ROOT, the working directory or a parent with papers, or this package's checkout.

    A package from a wheel has no checkout. It works in the working directory, on the papers that it ships. Raises
    HarnessError where there are no papers.
    """
    chosen = variables().root
    folder = Path(chosen) if chosen else _around() or (Path.cwd() if SHIPPED.is_dir() else OWN)
    if SHIPPED.is_dir() or (folder / "papers").is_dir():
        return folder
    if chosen:
        raise HarnessError(f"{variable('root')}={chosen}: holds no folder papers/; name a checkout of this project")
    raise HarnessError(f"no folder papers/ here: run from a checkout of this project, or set {variable('root')} to one")


def elsewhere() -> Path | None:
    """The checkout that is used although the working directory is in none: that of an editable install."""
    return None if variables().root or _around() or SHIPPED.is_dir() else checkout()


def _around() -> Path | None:
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if any(folder.glob(PAPERS))), None)


def project_file(root: Path, name: str) -> Path:
    """A file or folder of the project, by its name in a checkout: that of `root`, else the shipped one."""
    own, shipped = root / name, SHIPPED / name
    return shipped if shipped.exists() and not own.exists() else own


def paper_folders(root: Path) -> dict[str, Path]:
    """The folders of the papers by name: those of `root`, and the shipped ones whose names it lacks."""
    found = {path.parent.name: path.parent for place in (SHIPPED, root) for path in place.glob(PAPERS)}
    return dict(sorted(found.items()))


def results_folder(results: Path, paper: str, scale: str) -> Path:
    """The folder of a run: results/<paper>/<scale>."""
    return results / paper / scale


def references(root: Path) -> list[tuple[str, str]]:
    """The papers and scales that a checkout has a published run of."""
    return sorted((path.parent.parent.name, path.parent.name) for path in (root / REFERENCE).glob("*/*/card.json"))


def other_results(results: Path, root: Path, paper: str, scale: str) -> tuple[Path, ...]:
    """The folders of every other scale of every paper of `root`, which may hold runs of equal settings.

    The results that `harness check` trained for this run are included.
    """
    papers = paper_folders(root).items()
    runs = [(name, path.stem) for name, folder in papers for path in sorted(folder.glob("scales/*.yaml"))]
    others = [results_folder(results, *run) for run in runs if run != (paper, scale)]
    return (*others, *([] if results.name == CHECK else [results_folder(results / CHECK, paper, scale)]))
