"""params.yaml: the paper and scale that every command takes if none is given, and that dvc.yaml versions."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.base.errors import HarnessError
from harness.base.paths import RESULTS, results_folder
from harness.paper.load import describe, read_yaml


class Default(BaseModel):
    """The run that params.yaml names; `folder` is where its results lie, below the checkout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str
    scale: str
    folder: str


def default_run(root: Path) -> Default:
    """The run that params.yaml names. Raises HarnessError if it names none, or a folder that is not this run's."""
    path = root / "params.yaml"
    content = read_yaml(path)
    try:
        run = Default.model_validate(content.get("run") if isinstance(content, dict) else None)
    except ValidationError as error:
        raise HarnessError(f"{path}: run: {describe(error, Default)}") from None
    expected = results_folder(RESULTS, run.paper, run.scale).as_posix()
    if run.folder != expected:
        raise HarnessError(f"{path}: run.folder: {run.folder!r}: set it to {expected}, where this run's results lie")
    return run
