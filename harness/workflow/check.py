"""Checks that need to know the networks and data sets, which the spec does not: one line for each mistake."""

from harness.data import SOURCES
from harness.errors import HarnessError
from harness.networks import check
from harness.spec import Spec


def check_settings(spec: Spec) -> None:
    """Refuse a scale whose networks, data sets and recipes don't fit each other. Raises HarnessError."""
    for name, setting in spec.scale.experiments.items():
        where = f"{spec.folder / 'scales' / spec.scale_name}.yaml: experiments.{name}"
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
                f"{where}.change.augmentation: {recipe.augmentation} does not go with {setting.data}; give {fitting}"
            )
        if recipe.augmentation == "flip_crop" and len(source.shape) != 3:
            raise HarnessError(
                f"{where}.change.augmentation: flip_crop needs images, {setting.data} has samples of shape "
                f"{source.shape}; give none"
            )
