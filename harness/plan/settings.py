"""Checks a scale against the known networks, data sets, branches and criteria, and tells every mistake in one line."""

from collections.abc import Iterable, Iterator

from harness.base.errors import HarnessError
from harness.data import SOURCES, source_of
from harness.data.source import Source
from harness.lottery.branches import BRANCHES
from harness.lottery.criteria import CRITERIA
from harness.lottery.masks import keep_count
from harness.lottery.units import fewest_kept
from harness.networks import build, check
from harness.paper import Spec
from harness.paper.claims import expand_parts
from harness.paper.load import refuse
from harness.paper.models import Setting
from harness.plan.runs import owner


def check_settings(spec: Spec) -> None:
    """Refuse a scale whose networks, data sets, branches and recipes do not fit together. Raises HarnessError."""
    refuse(spec.folder / "claims.yaml", _wrong_branches(spec))
    path = spec.folder / "scales" / f"{spec.scale_name}.yaml"
    refuse(path, _wrong_pictures(spec))
    mistakes = (
        f"experiments.{name}{mistake}"
        for name, setting in spec.scale.experiments.items()
        for mistake in (*_wrong_pruning(setting), *_wrong_data(spec, name, setting))
    )
    refuse(path, mistakes)


def _wrong_branches(spec: Spec) -> Iterator[str]:
    """Claims about an unknown branch."""
    for claim in spec.claims:
        entry = claim.scales.get(spec.scale_name)
        for part in expand_parts(entry) if entry else []:
            for cell in part.cells:
                if cell.branch not in BRANCHES:
                    where = f"{claim.id}.scales.{spec.scale_name}, part {part.name!r}"
                    yield f"{where}: branch {_unknown(cell.branch, BRANCHES)}"


def _wrong_pruning(setting: Setting) -> Iterator[str]:
    """Unknown branches and criteria."""
    for sweep in setting.sweeps:
        for level, orders in sweep.at.items():
            for branch in orders.root:
                if branch not in BRANCHES:
                    yield f".sweeps: at level {level}: {_unknown(branch, BRANCHES)}"
                elif orders.of(branch) and not orders.of(of := owner(branch)):
                    yield f".sweeps: at level {level}: {branch} has the mask of {of}; give {of}: 1 there too"
    if setting.pruning.criterion not in CRITERIA:
        yield f".pruning.criterion: {_unknown(setting.pruning.criterion, CRITERIA)}"


def _wrong_pictures(spec: Spec) -> Iterator[str]:
    """Data sets of one's own that can't be read, and those with the name of another."""
    for name in spec.scale.data:
        if name in SOURCES:
            yield f"data.{name}: the project has a data set of that name; choose another"
            continue
        try:
            source_of(name, spec.scale.data)
        except HarnessError as error:
            yield f"data.{name}: {error}"


def _wrong_data(spec: Spec, name: str, setting: Setting) -> Iterator[str]:
    """An unknown data set, and a network or a recipe that does not suit it."""
    own = spec.scale.data
    if setting.data not in (*own, *SOURCES):
        yield f".data: {_unknown(setting.data, (*own, *SOURCES))}"
        return
    source, recipe = source_of(setting.data, own), spec.recipe(name)
    try:
        check(setting.network, source.shape)
    except (HarnessError, ValueError) as error:
        yield f".network: {error}; choose another network or data set"
    else:
        yield from _wrong_units(setting, source)
    if recipe.batch_size > source.training_samples:
        yield (
            f".change.batch_size: {recipe.batch_size} is more than the {source.training_samples} training samples of "
            f"{setting.data}; give a smaller one"
        )
    if (recipe.augmentation == "resized_crop") != source.on_disk:
        fitting = "resized_crop" if source.on_disk else "none or flip_crop"
        yield f".change.augmentation: {recipe.augmentation} does not suit {setting.data}; give {fitting}"
    if recipe.augmentation == "flip_crop" and len(source.shape) != 3:
        yield (
            f".change.augmentation: flip_crop needs images, {setting.data} has samples of shape {source.shape}; "
            "give none"
        )


def _wrong_units(setting: Setting, source: Source) -> Iterator[str]:
    """What keeps whole units of a network that names none, or at a level that can't hold one of each layer."""
    pruning = setting.pruning
    branches = {
        branch for sweep in setting.sweeps for orders in sweep.at.values() for branch in orders.root
    } & BRANCHES.keys()
    by_criterion = pruning.criterion in CRITERIA and CRITERIA[pruning.criterion].units
    by_itself = sorted(branch for branch in branches if BRANCHES[branch].units)
    if not by_criterion and not by_itself:
        return
    network = build(setting.network, 1, source.shape, source.classes)
    if not network.units():
        field, name = ("pruning.criterion", pruning.criterion) if by_criterion else ("sweeps", f"branch {by_itself[0]}")
        yield (
            f".{field}: {name} prunes whole units, and {setting.network} names none; choose another "
            f"{'criterion' if by_criterion else 'branch'} or network"
        )
        return
    fewest, total = fewest_kept(network), sum(network.get_parameter(name).numel() for name in network.prunable())
    for level in sorted({level for sweep in setting.sweeps for level in sweep.trained()}):
        if (keep := keep_count(total, pruning.density(level))) < fewest:
            yield (
                f".sweeps: level {level} keeps {keep} weights, but one unit of each layer has {fewest} in "
                f"{setting.network}; give fewer levels, or a criterion and branches that prune weights"
            )
            return


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"{name!r} is unknown; choose one of {', '.join(known)}"
