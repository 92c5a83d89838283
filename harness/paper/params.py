"""params.yaml: the paper and scale that every command takes if none is given, and that dvc.yaml versions."""

from pathlib import Path

from pydantic import ValidationError

from harness.base.errors import HarnessError
from harness.base.paths import RESULTS, project_file, results_folder
from harness.base.yaml_text import read_yaml
from harness.paper.load import check_name, describe, validated
from harness.paper.models import Model


class Default(Model):
    """The run that params.yaml names."""

    paper: str
    """The paper of every command that gets no `--paper`."""
    scale: str
    """The scale of every command that gets no `--scale`."""
    folder: str
    """Where this run's results lie, `results/<paper>/<scale>`, for DVC."""


class Params(Model):
    """The defaults of the commands."""

    run: Default
    """The run that commands take by default, and that DVC versions."""


def default_run(root: Path) -> Default:
    """The run that params.yaml names. Raises HarnessError if it names none, or a folder that is not this run's."""
    path = project_file(root, "params.yaml")
    content = read_yaml(path)
    try:
        run: Default = validated(content, Params).run
    except ValidationError as error:
        raise HarnessError(f"{path}: {describe(error, Params, content)}") from None
    for field, name in (("paper", run.paper), ("scale", run.scale)):
        if wrong := check_name(name):
            raise HarnessError(f"{path}: run.{field}: {name!r:.80}: {wrong}")
    expected = results_folder(RESULTS, run.paper, run.scale).as_posix()
    if run.folder != expected:
        raise HarnessError(f"{path}: run.folder: {run.folder!r}: set it to {expected}, where this run's results lie")
    return run
