"""Reads papers/<paper>/ and checks every cross-reference: the only reader of that YAML."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.base.errors import HarnessError
from harness.paper.claims import Cell, Claim, expand_parts
from harness.paper.columns import same_density
from harness.paper.models import Experiment, Orders, Paper, Recipe, Scale, Setting, Sweep
from harness.paper.published import check_published

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")  # names become paths and parts of commands


@dataclass(frozen=True, eq=False)  # compared as an object, so that what is worked out for one can be kept
class Spec:
    """A paper at a scale: everything that a run needs to know."""

    folder: Path
    paper: Paper
    experiments: dict[str, Experiment]
    claims: list[Claim]
    scale_name: str
    scale: Scale
    #: experiment -> replicates of the whole scale, where a selection of claims has fewer
    whole_replicates: dict[str, int] = field(default_factory=dict)

    def recipe(self, experiment: str) -> Recipe:
        """The recipe of an experiment at this scale: the paper's, with the setting's changes."""
        return changed_recipe(self.paper, self.experiments[experiment], self.scale.experiments[experiment])


def changed_recipe(paper: Paper, experiment: Experiment, setting: Setting) -> Recipe:
    """The paper's recipe of a network with a setting's changes. Raises ValidationError for a bad change."""
    return Recipe.model_validate({**paper.networks[experiment.network].recipe.model_dump(), **setting.change})


def load_spec(root: Path, paper: str, scale: str, alone: bool = False) -> Spec:
    """Load and check papers/<paper>/ at a scale; `alone`: the other scales that claims name need not be there.

    Raises HarnessError naming file, field, value and fix.
    """
    for option, value in (("--paper", paper), ("--scale", scale)):
        if not NAME.fullmatch(value):
            raise HarnessError(f"{option} {value!r}: a name is lower-case letters, digits and hyphens")
    papers = root / "papers"
    folder = papers / paper
    if not (folder / "paper.yaml").is_file():
        known = sorted(path.parent.name for path in papers.glob("*/paper.yaml"))
        raise HarnessError(f"{folder}: no such paper; choose one of {', '.join(known) or '(none in papers/)'}")
    scale_file = folder / "scales" / f"{scale}.yaml"
    if not scale_file.is_file():
        known = sorted(path.stem for path in (folder / "scales").glob("*.yaml"))
        raise HarnessError(f"{scale_file}: no such scale; choose one of {', '.join(known)}")
    spec = Spec(
        folder=folder,
        paper=_read(folder / "paper.yaml", Paper),
        experiments=_read(folder / "experiments.yaml", dict[str, Experiment]),
        claims=_read(folder / "claims.yaml", list[Claim]),
        scale_name=scale,
        scale=_read(scale_file, Scale),
    )
    _check_experiments(spec)
    _check_settings(spec, scale_file)
    _check_claims(spec, alone)
    check_published(folder / "published", spec.experiments)
    return spec


# the parser in C, where PyYAML was built with it, reads claims in a tenth of the time
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, which also refuses a duplicate key instead of taking the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is duplicated", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file with the safe loader. Raises HarnessError naming the file and the line."""
    try:
        return _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise HarnessError(f"{path}: missing; restore it from the repository") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise HarnessError(f"{path}:{where} is not valid YAML: {getattr(error, 'problem', error)}") from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from None


def _read(path: Path, kind: Any) -> Any:
    """Parse and validate one file."""
    try:
        return TypeAdapter(kind).validate_python(read_yaml(path))
    except ValidationError as error:
        raise HarnessError(f"{path}: {describe(error, kind)}") from None


def describe(error: ValidationError, kind: Any) -> str:
    """The first fault of a validation as one line: field, value, what is wrong, and the fields there are."""
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"]) or "the whole file"
    message = fault["msg"].removeprefix("Value error, ")
    value = repr(fault["input"])
    shown = f" (found {value if len(value) < 60 else value[:57] + '...'})"
    if fault["type"] == "extra_forbidden":
        message, shown = "unknown field; remove it or correct its name", ""
    elif fault["type"] == "missing":
        message, shown = "this field is missing; add it", ""
    elif fault["type"] == "value_error":
        shown = ""
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{field}: {message}{shown}{more}"


def _check_experiments(spec: Spec) -> None:
    for name, experiment in spec.experiments.items():
        other = spec.experiments.get(experiment.draws) if experiment.draws else None
        if experiment.draws and (other is None or other.draws):
            raise HarnessError(
                f"{spec.folder / 'experiments.yaml'}: {name}.draws: {experiment.draws!r} is no experiment with random "
                f"draws of its own; choose one of {', '.join(n for n, e in spec.experiments.items() if not e.draws)}"
            )
        if not NAME.fullmatch(name):
            file = spec.folder / "experiments.yaml"
            raise HarnessError(f"{file}: {name!r}: a name is lower-case letters, digits and hyphens; rename it")
        if experiment.network not in spec.paper.networks and not experiment.untested:
            raise HarnessError(
                f"{spec.folder / 'experiments.yaml'}: {name}.network: {experiment.network!r} is not in paper.yaml's "
                f"networks; choose one of {', '.join(spec.paper.networks)}, or say in `untested` why it isn't there"
            )
    for place, figure in enumerate(spec.paper.figures):
        for name in figure.experiments:
            if name not in spec.experiments:
                raise HarnessError(
                    f"{spec.folder / 'paper.yaml'}: figures.{place}.experiments: {name!r} is not in experiments.yaml; "
                    f"choose one of {', '.join(spec.experiments)}"
                )


def _check_settings(spec: Spec, file: Path) -> None:
    for name, setting in spec.scale.experiments.items():
        where = f"{file}: experiments.{name}"
        if name not in spec.experiments:
            raise HarnessError(f"{where}: not in experiments.yaml; choose one of {', '.join(spec.experiments)}")
        if spec.experiments[name].untested:
            raise HarnessError(f"{where}: experiments.yaml says it can't be run ({spec.experiments[name].untested})")
        try:
            recipe = changed_recipe(spec.paper, spec.experiments[name], setting)
        except ValidationError as error:
            raise HarnessError(f"{where}.change.{describe(error, Recipe)}") from None
        for k in setting.snapshot_steps():
            if k >= recipe.steps:
                raise HarnessError(
                    f"{where}: rewind iteration k = {k} is past the end of training ({recipe.steps} steps); "
                    f"give a k below {recipe.steps}"
                )


def _check_claims(spec: Spec, alone: bool) -> None:
    """Every cell of a claim at the loaded scale names an experiment, a k and a density that exist there."""
    file = spec.folder / "claims.yaml"
    seen: set[str] = set()
    scales = {path.stem for path in (spec.folder / "scales").glob("*.yaml")}
    for claim in spec.claims:
        if claim.id in seen:
            raise HarnessError(f"{file}: {claim.id}: is duplicated; give each claim its own id")
        seen.add(claim.id)
        for name in claim.scales:
            if name not in scales and not alone:
                known = ", ".join(sorted(scales))
                raise HarnessError(f"{file}: {claim.id}.scales.{name}: no such scale; choose one of {known}")
        for name in claim.figure_experiments:
            if name not in spec.experiments:
                raise HarnessError(f"{file}: {claim.id}.figure_experiments: {name!r} is not in experiments.yaml")
        entry = claim.scales.get(spec.scale_name)
        if entry is None:
            continue
        for part in expand_parts(entry):
            for cell, k_values, densities in part.cells_and_grids():
                _check_cell(
                    spec, f"{file}: {claim.id}.scales.{spec.scale_name}, part {part.name!r}", cell, k_values, densities
                )


def _check_cell(spec: Spec, where: str, cell: Cell, k_values: list[int], densities: list[float]) -> None:
    if cell.experiment not in spec.experiments:
        raise HarnessError(
            f"{where}: experiment {cell.experiment!r} is not in experiments.yaml; "
            f"choose one of {', '.join(spec.experiments)}"
        )
    setting = spec.scale.experiments.get(cell.experiment)
    if setting is None:
        raise HarnessError(
            f"{where}: experiment {cell.experiment!r} has no setting at scale {spec.scale_name}; "
            f"add it to scales/{spec.scale_name}.yaml or drop the claim's entry for this scale"
        )
    grid = [*setting.dense_orders, 0] if cell.branch == "dense" else setting.rewind_grid()
    for k in k_values:
        if k not in grid:
            raise HarnessError(
                f"{where}: k = {k} is not run for {cell.experiment}, branch {cell.branch}; "
                f"choose one of {sorted(set(grid))}"
            )
    if cell.branch == "dense":
        return
    for sweep in setting.sweeps:
        if k_values and not set(k_values) & set(sweep.k):
            continue
        reached = [setting.pruning.density(level) for level in sweep.trained() if _asked(sweep, level, cell)]
        for density in densities:
            if not any(same_density(value, density) for value in reached):
                raise HarnessError(
                    f"{where}: no level of {cell.experiment} reaches density {density}; levels reach "
                    f"{', '.join(f'{value:.3f}' for value in reached) or 'none'} "
                    f"({cell.describe()}; the sweep over k = {', '.join(map(str, sweep.k))})"
                )


def _asked(sweep: Sweep, level: int, cell: Cell) -> bool:
    """Whether the sweep trains what the cell reads at a level: the branch, and two data orders where they compare."""
    orders = sweep.at.get(level, Orders({})).of(cell.branch)
    return bool(orders >= (2 if cell.comparison == "data_order" else 1))


def dump(model: BaseModel) -> dict[str, Any]:
    """A model as plain JSON values."""
    return model.model_dump(mode="json")
