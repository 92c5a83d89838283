"""GPUs by name: the time of a training step from a card's published rates, where there is no GPU to measure."""

from dataclasses import dataclass

from harness.data import source_of
from harness.estimate.arithmetic import step_work
from harness.paper import Spec


@dataclass(frozen=True)
class Card:
    """A card's highest rates as its maker prints them: operations of dense matrix products and bytes, per second."""

    title: str
    flops: dict[str, float]  # by a recipe's precision
    bytes: float


#: from NVIDIA's data sheets, matrices without structural sparsity: H100 SXM, A100 SXM 80 GB, GeForce RTX 4090
CARDS = {
    "h100": Card("H100 SXM", {"float32": 67e12, "tf32": 495e12, "bfloat16": 990e12}, 3.35e12),
    "a100": Card("A100 SXM", {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}, 2.04e12),
    "4090": Card("RTX 4090", {"float32": 82.6e12, "tf32": 82.6e12, "bfloat16": 165e12}, 1.01e12),
}
DEFAULT = "h100"


def step_on(card: Card, spec: Spec, experiment: str) -> tuple[float, float]:
    """Seconds of a network's training step, and of its forward pass per sample, at a card's rates.

    The longer of its matrix products and of what all its operations read and write, as if every operation went to
    memory. Real steps take longer: no operation reaches these rates. A forward pass is a third of both.
    """
    setting, recipe = spec.scale.experiments[experiment], spec.recipe(experiment)
    source = source_of(setting.data, spec.scale.data)
    work = step_work(setting.network, source.shape, source.classes, recipe)
    width = 0.5 if recipe.precision == "bfloat16" else 1.0  # of a number in the feature maps
    moved = width * work.all_bytes + work.update_bytes
    seconds = max(work.flops / card.flops[recipe.precision], moved / card.bytes)
    return seconds, seconds / 3 / recipe.batch_size
