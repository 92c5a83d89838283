"""What papers/<paper>/*.yaml may say: typed, closed (an unknown field is an error), immutable."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Model(BaseModel):
    """A closed, frozen record."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Branch = Literal["dense", "imp", "random_prune", "random_reinit"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Step = Annotated[int, Field(ge=0)]


class Recipe(Model):
    """How a network is trained; steps count minibatches. All fields enter the digest of a training."""

    optimizer: Literal["momentum", "adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Count
    steps: Count
    warmup: Step = 0
    drops: tuple[Count, ...] = ()
    drop_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    augmentation: Literal["none", "flip_crop"] = "none"
    # of the products; weights, sums and optimizers are always float32. "tf32" is a GPU's, "bfloat16" has no CPU kernels
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _within_training(self) -> "Recipe":
        for drop in self.drops:
            if drop >= self.steps:
                raise ValueError(f"drops: {drop} is past the end of training ({self.steps} steps); give a smaller step")
        if list(self.drops) != sorted(self.drops):
            raise ValueError(f"drops: {list(self.drops)} must rise")
        if self.warmup > self.steps:
            raise ValueError(f"warmup: {self.warmup} is longer than training ({self.steps} steps)")
        return self


class NetworkRecipe(Model):
    """One row of the paper's network tables."""

    title: str
    network: str
    data: str
    recipe: Recipe
    source: str
    note: str = ""


class Choice(Model):
    """A choice that the paper leaves open, how it was settled, and why."""

    choice: str
    value: str
    source: str


class Paper(Model):
    """paper.yaml."""

    id: str
    title: str
    authors: str
    arxiv: str
    url: str
    year: int
    version: str
    networks: dict[str, NetworkRecipe]
    choices: tuple[Choice, ...]


class Experiment(Model):
    """experiments.yaml, one entry: a row of the paper, at whatever scale it is run."""

    title: str
    network: str
    asks: str
    untested: str = ""


class Pruning(Model):
    """Share of the surviving weights pruned at each level; one_shot prunes the dense network to every level at once."""

    fraction: Fraction
    style: Literal["iterative", "one_shot"] = "iterative"

    def density(self, level: int) -> float:
        """Share of prunable weights remaining at a level."""
        return (1.0 - self.fraction) ** level


class Orders(Model):
    """How many data orders of each branch are trained at a level."""

    imp: Count = 1
    random_prune: Step = 0
    random_reinit: Step = 0


class Sweep(Model):
    """Levels 1..levels at each rewind iteration of `k`, with branches and further data orders at some levels."""

    k: Annotated[tuple[Step, ...], Field(min_length=1)]
    levels: Count
    at: dict[Count, Orders] = {}

    @model_validator(mode="after")
    def _levels_exist(self) -> "Sweep":
        for level in self.at:
            if level > self.levels:
                raise ValueError(f"at: level {level} is past the sweep's last level {self.levels}")
        return self


class Line(Model):
    """Linear interpolation: points on the line, samples of each split that the error is measured on."""

    points: Annotated[int, Field(ge=3)] = 30
    train_samples: Count = 1500
    test_samples: Count = 1500


class Setting(Model):
    """One experiment at one scale. `change` overrides fields of the paper's recipe, `data` and `network` its own.

    At each k of `dense_orders` the dense network is trained again from its snapshot, `dense_copies` times, each time
    with another data order. With `restart`, what is trained from a snapshot trains all of the recipe's steps, the
    schedule and the optimizer from their beginning, so that the dense run is no longer one of the copies.
    """

    network: str
    data: str
    change: dict[str, Any] = {}
    pruning: Pruning
    replicates: Count
    replicates_per_job: Count
    levels_per_job: Count
    dense_orders: tuple[Step, ...] = ()
    dense_copies: Count = 1
    restart: bool = False
    sweeps: tuple[Sweep, ...] = ()
    line: Line = Line()
    calibration: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one_sweep_each(self) -> "Setting":
        grid = self.rewind_grid()
        if len(set(grid)) != len(grid):
            raise ValueError(f"sweeps: a rewind iteration stands in two sweeps ({grid}); merge them")
        if self.restart and self.dense_orders and self.dense_copies < 2:
            raise ValueError("restart: the dense run is none of the copies then; give dense_copies 2 or more")
        if self.calibration and self.calibration[0] >= self.calibration[1]:
            raise ValueError(f"calibration: {list(self.calibration)} must be (low, high)")
        return self

    def rewind_grid(self) -> list[int]:
        """Every rewind iteration of the sweeps."""
        return [k for sweep in self.sweeps for k in sweep.k]

    def snapshot_steps(self) -> list[int]:
        """Steps at which the dense run saves a snapshot."""
        return sorted({0, *self.rewind_grid(), *self.dense_orders})


class Scale(Model):
    """scales/<scale>.yaml."""

    description: str
    judges_claims: bool
    hardware: str
    experiments: dict[str, Setting]
