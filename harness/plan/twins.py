"""Experiments that train the same networks: equal network, data set and recipe, and equal random draws.

Every random draw is named after an experiment: the run's experiment, or the one that experiments.yaml names under
`draws`. So two experiments of one name, in any paper and scale, have equal draws and share every run of equal settings.
Experiments of different names do so if `draws` of one names the other.
"""

from harness.paper import Spec
from harness.paper.load import dump


def draws(spec: Spec, experiment: str) -> str:
    """The experiment after which the random draws of an experiment are named."""
    return spec.experiments[experiment].draws or experiment


def drawing_alike(spec: Spec, experiment: str) -> list[str]:
    """The names under which runs with the random draws of an experiment may be stored, its own name first."""
    name = draws(spec, experiment)
    others = [other for other in spec.experiments if draws(spec, other) == name]
    return list(dict.fromkeys([experiment, name, *others]))


def snapshots(spec: Spec, experiment: str) -> tuple[int, ...]:
    """Steps of the dense run's snapshots that any experiment of the scale with the same dense run asks for."""
    setting, recipe = spec.scale.experiments[experiment], dump(spec.recipe(experiment))
    steps = set(setting.snapshot_steps())
    for other in drawing_alike(spec, experiment)[1:]:
        twin = spec.scale.experiments.get(other)
        same = twin is not None and (twin.network, twin.data) == (setting.network, setting.data)
        if twin is not None and same and dump(spec.recipe(other)) == recipe:
            steps |= set(twin.snapshot_steps())
    return tuple(sorted(steps))
