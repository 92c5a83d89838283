"""Reads papers/<paper>/ and checks every cross-reference: the only reader of that YAML."""

import difflib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.base.errors import HarnessError
from harness.base.paths import paper_folders
from harness.base.yaml_text import read_yaml
from harness.paper.claims import Cell, Claim, Part, expand_parts
from harness.paper.columns import same_density
from harness.paper.frozen import FILE, Frozen
from harness.paper.models import Experiment, Orders, Paper, Recipe, Scale, Setting, Sweep, too_large
from harness.paper.published import Published
from harness.paper.published_tables import read_published

NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")  # names become paths and parts of commands
#: names that YAML, Python or a data frame takes for a value
VALUES = ("null", "none", "nan", "inf", "infinity", "true", "false", "yes", "no", "on", "off", "y", "n")
MOST_TOLD = 20  # mistakes of one file


@dataclass(frozen=True, eq=False)  # compared as an object, so that what is worked out for one can be kept
class Spec:
    """A paper at a scale: everything that a run needs to know."""

    folder: Path
    paper: Paper
    experiments: dict[str, Experiment]
    claims: list[Claim]
    scale_name: str
    scale: Scale
    published: Published = field(default_factory=Published)
    frozen: Frozen = field(default_factory=dict)
    #: experiment -> replicates of the whole scale, where a selection of claims has fewer
    whole_replicates: dict[str, int] = field(default_factory=dict)
    #: the numbers of replicates of a planned design's looks, where the run follows one
    looks: tuple[int, ...] = ()

    def recipe(self, experiment: str) -> Recipe:
        """The recipe of an experiment at this scale: the paper's, with the setting's changes."""
        return changed_recipe(self.paper, self.experiments[experiment], self.scale.experiments[experiment])


def changed_recipe(paper: Paper, experiment: Experiment, setting: Setting) -> Recipe:
    """The paper's recipe of a network with a setting's changes. Raises ValidationError for a bad change."""
    recipe = paper.networks[experiment.network].recipe
    changed: Recipe = validated({**recipe.model_dump(mode="json"), **setting.change}, Recipe)
    return changed


def load_spec(root: Path, paper: str, scale: str, alone: bool = False) -> Spec:
    """Load and check papers/<paper>/ at a scale; `alone`: the other scales that claims name need not be there.

    Raises HarnessError naming file, field, value and fix.
    """
    for option, value in (("--paper", paper), ("--scale", scale)):
        if wrong := check_name(value):
            raise HarnessError(f"{option} {value!r:.80}: {wrong}")
    papers = paper_folders(root)
    if paper not in papers:
        there = ", ".join(papers) or "(none in papers/)"
        raise HarnessError(f"{root / 'papers' / paper}: no such paper; choose one of {there}")
    folder = papers[paper]
    scale_file = folder / "scales" / f"{scale}.yaml"
    if not scale_file.is_file():
        known = sorted(path.stem for path in (folder / "scales").glob("*.yaml"))
        raise HarnessError(f"{scale_file}: no such scale; choose one of {', '.join(known)}")
    model, experiments = (
        read_models(folder / "paper.yaml", Paper),
        read_models(folder / "experiments.yaml", dict[str, Experiment]),
    )
    spec = Spec(
        folder=folder,
        paper=model,
        experiments=experiments,
        claims=read_models(folder / "claims.yaml", list[Claim]),
        scale_name=scale,
        scale=read_models(scale_file, Scale),
        published=read_published(
            folder / "published", experiments, model.published, _steps_per_epoch(model, experiments)
        ),
        frozen=read_models(folder / FILE, Frozen, empty={}) if (folder / FILE).is_file() else {},
    )
    refuse(folder / "experiments.yaml", _wrong_experiments(spec))
    refuse(folder / "paper.yaml", _wrong_figures(spec))
    refuse(scale_file, _wrong_settings(spec))
    refuse(folder / "claims.yaml", _wrong_claims(spec, alone))
    return spec


def _steps_per_epoch(paper: Paper, experiments: Mapping[str, Experiment]) -> dict[str, float]:
    """Of each experiment whose rewind points the paper counts in epochs."""
    networks = {name: paper.networks.get(experiment.network) for name, experiment in experiments.items()}
    return {name: row.recipe.steps / row.epochs for name, row in networks.items() if row and row.epochs}


def read_models(path: Path, kind: Any, empty: Any = None) -> Any:
    """A file's content as typed models, `empty` for an empty file. Raises HarnessError with all mistakes."""
    try:
        content = read_yaml(path)
        models = validated(empty if content is None else content, kind)
    except ValidationError as error:
        raise HarnessError(f"{path}: {describe(error, kind, content)}") from None
    refuse(path, too_large(models))
    return models


def refuse(path: Path, mistakes: Iterable[str]) -> None:
    """Tell the mistakes of a file at once, in one line. Raises HarnessError if there are any."""
    if told := list(itertools.islice(mistakes, MOST_TOLD + 1)):
        raise HarnessError(f"{path}: {_line(told)}")


def _line(mistakes: list[str]) -> str:
    more = "; and more" if len(mistakes) > MOST_TOLD else ""
    return "; ".join(mistakes[:MOST_TOLD]) + more


def validated(content: Any, kind: Any) -> Any:
    """Content of a YAML file as typed models, by JSON's strict types: "3" is no number, 1 no truth value.

    Raises ValidationError.
    """
    return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)


def describe(error: ValidationError, kind: Any, content: Any = None) -> str:
    """The faults of a validation as one line: field, value, what is wrong, and the field that may have been meant.

    `content` is what was validated, where it has numbers as they are written.
    """
    faults = error.errors(include_url=False)
    return _line([_fault(fault, kind, content) for fault in faults[: MOST_TOLD + 1]])


def _fault(fault: Any, kind: Any, content: Any) -> str:
    field = ".".join(f"{part!s:.80}" for part in fault["loc"]) or "the whole file"
    message = fault["msg"].removeprefix("Value error, ")
    value = repr(_as_written(fault["input"], fault["loc"], content))
    shown = f" (found {value if len(value) < 60 else value[:57] + '...'})"
    if fault["type"] == "extra_forbidden":
        known = _fields(kind, fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1])[:80], known, n=1)
        message, shown = f"unknown field; did you mean {near[0]}?" if near else "unknown field; remove it", ""
    elif fault["type"] == "missing":
        message, shown = "this field is missing; add it", ""
    elif fault["type"] == "value_error":
        shown = ""
    return f"{field}: {message}{shown}"


def _as_written(value: Any, place: tuple[int | str, ...], content: Any) -> Any:
    """The value at a place in content; the value itself where content has another one there."""
    for part in place:
        try:
            content = content[part]
        except (LookupError, TypeError):
            return value
    return content if content == value else value


def _fields(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """The fields of the model at a place in content of a type; none where no model is."""
    types = _alternatives(kind)
    for part in place:
        inner: list[Any] = []
        for one in types:
            fields = getattr(one, "model_fields", {})
            if "root" in fields:
                one, fields = fields["root"].annotation, {}
            if part in fields:
                inner += _alternatives(fields[str(part)].annotation)
            elif get_origin(one) in (dict, list, tuple):
                inner += _alternatives(get_args(one)[1 if get_origin(one) is dict else 0])
        types = inner
    return [name for one in types for name in getattr(one, "model_fields", {})]


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [one for arm in get_args(kind) for one in _alternatives(arm)]
    return [kind]


def check_name(name: str) -> str:
    """What is wrong with the name of a paper, scale, experiment or data set; nothing if it can be used."""
    if not NAME.fullmatch(name):
        return "a name is lower-case letters, digits and hyphens, and begins with a letter; rename it"
    return f"{name} is a value, not a name, to some reader of it; rename it" if name in VALUES else ""


def _wrong_experiments(spec: Spec) -> Iterator[str]:
    for name, experiment in spec.experiments.items():
        other = spec.experiments.get(experiment.draws) if experiment.draws else None
        if experiment.draws and (other is None or other.draws):
            yield (
                f"{name}.draws: {experiment.draws!r} is no experiment with random "
                f"draws of its own; choose one of {', '.join(n for n, e in spec.experiments.items() if not e.draws)}"
            )
        if wrong := check_name(name):
            yield f"{name!r:.80}: {wrong}"
        if experiment.network not in spec.paper.networks and not experiment.untested:
            yield (
                f"{name}.network: {experiment.network!r} is not in paper.yaml's "
                f"networks; choose one of {', '.join(spec.paper.networks)}, or say in `untested` why it isn't there"
            )


def _wrong_figures(spec: Spec) -> Iterator[str]:
    for place, figure in enumerate(spec.paper.figures):
        for name in figure.experiments:
            if name not in spec.experiments:
                yield (
                    f"figures.{place}.experiments: {name!r} is not in experiments.yaml; "
                    f"choose one of {', '.join(spec.experiments)}"
                )


def _wrong_settings(spec: Spec) -> Iterator[str]:
    yield from (f"data.{name!s:.80}: {wrong}" for name in spec.scale.data if (wrong := check_name(name)))
    for name, setting in spec.scale.experiments.items():
        where = f"experiments.{name}"
        if name not in spec.experiments:
            yield f"{where}: not in experiments.yaml; choose one of {', '.join(spec.experiments)}"
            continue
        if spec.experiments[name].untested:
            yield f"{where}: experiments.yaml says it can't be run ({spec.experiments[name].untested})"
            continue
        try:
            recipe = changed_recipe(spec.paper, spec.experiments[name], setting)
        except ValidationError as error:
            yield f"{where}.change.{describe(error, Recipe)}"
            continue
        yield from (f"{where}.change.{mistake}" for mistake in too_large(recipe))
        for k in setting.snapshot_steps():
            if k >= recipe.steps:
                yield (
                    f"{where}: rewind iteration k = {k} is past the end of training ({recipe.steps} steps); "
                    f"give a k below {recipe.steps}"
                )


def _wrong_claims(spec: Spec, alone: bool) -> Iterator[str]:
    """As many claims as paper.yaml says, and each cell's experiment, k and density exist at the loaded scale."""
    if len(spec.claims) != spec.paper.claims:
        yield (f"has {len(spec.claims)} claims, paper.yaml says {spec.paper.claims}; restore it, or set claims there")
    seen: set[str] = set()
    scales = {path.stem for path in (spec.folder / "scales").glob("*.yaml")}
    for claim in spec.claims:
        if claim.id in seen:
            yield f"{claim.id}: is duplicated; give each claim its own id"
        seen.add(claim.id)
        for name in claim.scales:
            if name not in scales and not alone:
                known = ", ".join(sorted(scales))
                yield f"{claim.id}.scales.{name}: no such scale; choose one of {known}"
        for erratum in claim.errata:
            if erratum.scale not in claim.scales:
                yield f"{claim.id}.errata: it is not judged at scale {erratum.scale}; correct the scale"
        for name in claim.figure_experiments:
            if name not in spec.experiments:
                yield f"{claim.id}.figure_experiments: {name!r} is not in experiments.yaml"
        entry = claim.scales.get(spec.scale_name)
        if entry is None:
            continue
        for part in expand_parts(entry):
            yield from _wrong_direction(spec, f"{claim.id}.scales.{spec.scale_name}, part {part.name!r}", part)
            for cell, k_values, densities in part.cells_and_grids():
                where = f"{claim.id}.scales.{spec.scale_name}, part {part.name!r}"
                yield from _wrong_cell(spec, where, cell, k_values, densities)


def _wrong_direction(spec: Spec, where: str, part: Part) -> Iterator[str]:
    """The paper's own number lies in the region of every direction, and every size has a number to compare with."""
    quantity = spec.published.part(part)
    if part.region is None:
        if quantity is None and spec.published.spread and spec.scale.papers_own:
            yield f"{where}: published/ has no {part.measure} for its cells; add it there, or a region here"
    elif quantity is not None:
        value = math.exp(quantity.value) if part.logarithmic else quantity.value
        low, high = part.bounds
        if not low <= value <= high:
            yield f"{where}: region {list(part.region)} misses the published value, {value:.3g}; correct the region"


def _wrong_cell(spec: Spec, where: str, cell: Cell, k_values: list[int], densities: list[float]) -> Iterator[str]:
    if cell.experiment not in spec.experiments:
        yield (
            f"{where}: experiment {cell.experiment!r} is not in experiments.yaml; "
            f"choose one of {', '.join(spec.experiments)}"
        )
        return
    setting = spec.scale.experiments.get(cell.experiment)
    if setting is None:
        yield (
            f"{where}: experiment {cell.experiment!r} has no setting at scale {spec.scale_name}; "
            f"add it to scales/{spec.scale_name}.yaml or drop the claim's entry for this scale"
        )
        return
    grid = [*setting.dense_orders, 0] if cell.branch == "dense" else setting.rewind_grid()
    for k in k_values:
        if k not in grid:
            yield (
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
                yield (
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
