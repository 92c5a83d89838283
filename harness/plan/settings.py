"""Checks a scale against the known networks, data sets, branches and criteria, with a one-line error for a mistake."""

from collections.abc import Iterable

from harness.base.errors import HarnessError
from harness.data import SOURCES
from harness.lottery.branches import BRANCHES
from harness.lottery.criteria import CRITERIA
from harness.networks import check
from harness.paper import Spec
from harness.paper.claims import expand_parts
from harness.paper.models import Setting


def check_settings(spec: Spec) -> None:
    """Refuse a scale whose networks, data sets, branches and recipes do not fit together. Raises HarnessError."""
    _check_claims(spec)
    for name, setting in spec.scale.experiments.items():
        where = f"{spec.folder / 'scales' / spec.scale_name}.yaml: experiments.{name}"
        _check_pruning(where, setting)
        if setting.data not in SOURCES:
            raise HarnessError(f"{where}.data: {setting.data!r} is unknown; choose one of {', '.join(SOURCES)}")
        source, recipe = SOURCES[setting.data], spec.recipe(name)
        try:
            check(setting.network, source.shape)
        except (HarnessError, ValueError) as error:
            raise HarnessError(f"{where}.network: {error}; choose another network or data set") from None
        if recipe.batch_size > source.training_samples:
            raise HarnessError(
                f"{where}.change.batch_size: {recipe.batch_size} is more than the {source.training_samples} training "
                f"samples of {setting.data}; give a smaller one"
            )
        if (recipe.augmentation == "resized_crop") != source.on_disk:
            fitting = "resized_crop" if source.on_disk else "none or flip_crop"
            raise HarnessError(
                f"{where}.change.augmentation: {recipe.augmentation} does not suit {setting.data}; give {fitting}"
            )
        if recipe.augmentation == "flip_crop" and len(source.shape) != 3:
            raise HarnessError(
                f"{where}.change.augmentation: flip_crop needs images, {setting.data} has samples of shape "
                f"{source.shape}; give none"
            )


def _check_pruning(where: str, setting: Setting) -> None:
    """Refuse an unknown branch or criterion."""
    for sweep in setting.sweeps:
        for level, orders in sweep.at.items():
            for branch in orders.root:
                if branch not in BRANCHES:
                    raise HarnessError(f"{where}.sweeps: at level {level}: {_unknown(branch, BRANCHES)}")
    if setting.pruning.criterion not in CRITERIA:
        raise HarnessError(f"{where}.pruning.criterion: {_unknown(setting.pruning.criterion, CRITERIA)}")


def _check_claims(spec: Spec) -> None:
    """Refuse a claim about an unknown branch."""
    for claim in spec.claims:
        entry = claim.scales.get(spec.scale_name)
        for part in expand_parts(entry) if entry else []:
            for cell in part.cells:
                if cell.branch not in BRANCHES:
                    where = f"{spec.folder / 'claims.yaml'}: {claim.id}.scales.{spec.scale_name}, part {part.name!r}"
                    raise HarnessError(f"{where}: branch {_unknown(cell.branch, BRANCHES)}")


def _unknown(name: str, known: Iterable[str]) -> str:
    return f"{name!r} is unknown; choose one of {', '.join(known)}"
