"""What papers/<paper>/*.yaml may say: typed, closed (an unknown field is an error), immutable."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, StringConstraints, model_validator


class Model(BaseModel):
    """A closed, frozen record."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# a file of harness/lottery/branches; harness.plan.settings refuses other names
Branch = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
# files of the page's figures, see harness/report/page.py
PageFigure = Literal[
    "accuracy-density",
    "accuracy-k",
    "train-accuracy-k",
    "accuracy",
    "instability-k",
    "onset-density",
    "distance",
    "distance-k",
    "angle",
    "angle-k",
    "interpolation",
]
#: what tells recipes apart in dense networks, see harness/claims/calibration.py
Gauge = Literal["test_accuracy", "train_loss", "data_order_distance"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Step = Annotated[int, Field(ge=0)]
Band = tuple[float, float]  # lowest, highest


class Recipe(Model):
    """How a network is trained; steps count minibatches. All fields enter the digest of a training.

    The learning rate warms up linearly over `warmup` steps; it drops by `drop_factor` at each of `drops`, or it decays
    to `final_learning_rate` at the end of training, linearly or exponentially. `rms_decay` of the running mean of
    squared gradients and `rms_epsilon`, added to that mean's root, are for rmsprop, for which the paper prints neither.
    """

    optimizer: Literal["momentum", "adam", "rmsprop"]
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rms_decay: Fraction | None = None
    rms_epsilon: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch_size: Count
    steps: Count
    warmup: Step = 0
    drops: tuple[Count, ...] = ()
    drop_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    decay: Literal["none", "linear", "exponential"] = "none"
    final_learning_rate: Annotated[float, Field(gt=0)] | None = None
    augmentation: Literal["none", "flip_crop", "resized_crop"] = "none"
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

    @model_validator(mode="after")
    def _fields_fit(self) -> "Recipe":
        for name in ("rms_decay", "rms_epsilon"):
            _needed_by(name, getattr(self, name), self.optimizer == "rmsprop", "optimizer: rmsprop")
        decays = self.decay != "none"
        _needed_by("final_learning_rate", self.final_learning_rate, decays, "decay: linear and exponential")
        if self.final_learning_rate is not None and self.final_learning_rate >= self.learning_rate:
            raise ValueError(f"final_learning_rate: {self.final_learning_rate} is no decay from {self.learning_rate}")
        if decays and self.drops:
            raise ValueError(f"decay: {self.decay} does not go with drops; give one of the two")
        return self


def _needed_by(name: str, value: float | None, needed: bool, by: str) -> None:
    """Refuse a field that is missing where it has a meaning, or given where it has none."""
    if needed and value is None:
        raise ValueError(f"{name}: this field is missing; {by} needs it")
    if not needed and value is not None:
        raise ValueError(f"{name}: only {by} uses it; remove it")


class NetworkRecipe(Model):
    """One row of the paper's network tables.

    `epochs` is the length as the paper prints it, where its figures count rewind points in epochs.
    """

    title: str
    network: str
    data: str
    recipe: Recipe
    source: str
    note: str = ""
    epochs: Count | None = None


class Choice(Model):
    """A choice that the paper leaves open, how it was settled, and why."""

    choice: str
    value: str
    source: str


class PaperFigure(Model):
    """A figure or table of the paper and where the page shows the same measured here.

    `published` is how the rows of published/*.csv name it; `drawn_in` names figures of the page.
    """

    figure: str
    shows: str
    published: str
    drawn_in: tuple[PageFigure, ...] = ()
    experiments: tuple[str, ...] = ()
    note: str = ""


class Threshold(Model):
    """A bound that the page draws, in points, and whose it is."""

    value: Annotated[float, Field(gt=0)]
    source: str


class Spread(Model):
    """What an error in published/*.csv says of how far single networks spread.

    `errors`: how many standard deviations an error is, of networks and of pairs by comparison: 1 where it is one, 0.846
    where it is half the range of three normal values, 1.82 of eighteen. `unstated`: the standard deviation taken where
    none is published, by experiment or else by measure. `replicates`: how many the paper's means are over.
    """

    replicates: Annotated[int, Field(ge=2)]
    errors: dict[str, Annotated[float, Field(gt=0)]]
    unstated: dict[str, Annotated[float, Field(gt=0)]] = {}


class Paper(Model):
    """paper.yaml.

    A paper has an `arxiv` number, a `doi` or a `url`; a study of one's own may have none. A network is stable below an
    instability of `stable_below`; its accuracy matches within `matching_within` of the dense network's. What is not
    given is not drawn. Without `published`, no measured size is held against the paper's.
    """

    id: str
    title: str
    authors: str
    arxiv: str = ""
    doi: str = ""
    url: str = ""
    year: int
    version: str = ""
    networks: dict[str, NetworkRecipe]
    choices: tuple[Choice, ...]
    claims: Step  # how many claims.yaml has: a file that was cut between two would pass for a whole one
    published: Spread | None = None
    figures: tuple[PaperFigure, ...] = ()
    stable_below: Threshold | None = None
    matching_within: Threshold | None = None


def reference(arxiv: str, doi: str) -> str:
    """A paper's number as readers write it: `arXiv 1903.01611`, `doi:10.1000/182`, or nothing."""
    return f"arXiv {arxiv}" if arxiv else f"doi:{doi}" if doi else ""


class Experiment(Model):
    """experiments.yaml, one entry: a row of the paper, at whatever scale it is run.

    `draws` names another experiment whose random draws are used, so that equal trainings of the two are one.
    """

    title: str
    network: str
    question: str
    untested: str = ""
    draws: str = ""


class Pruning(Model):
    """What remains at each level: of `fraction`, the share of the survivors that each level prunes, or of `densities`.

    `one_shot` prunes the dense network to every level at once; only it takes `densities`, the share of prunable weights
    that remains at level 1, 2, ... `criterion`, a file of harness/lottery/criteria, ranks the weights. `snip_batches`
    is how many minibatches a criterion that looks at data gets; SNIP's sensitivity is summed over them.
    """

    fraction: Fraction | None = None
    densities: tuple[Fraction, ...] = ()
    style: Literal["iterative", "one_shot"] = "iterative"
    criterion: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")] = "magnitude"
    snip_batches: Count = 1

    @model_validator(mode="after")
    def _one_way(self) -> "Pruning":
        if (self.fraction is None) != bool(self.densities):
            raise ValueError("fraction, densities: give one of the two")
        if self.densities and self.style != "one_shot":
            raise ValueError(f"densities: {list(self.densities)} are one-shot; give style: one_shot, or a fraction")
        if list(self.densities) != sorted(set(self.densities), reverse=True):
            raise ValueError(f"densities: {list(self.densities)} must fall")
        return self

    @property
    def last_level(self) -> int | None:
        """The level past which nothing is defined; None without end."""
        return len(self.densities) or None

    def density(self, level: int) -> float:
        """Share of prunable weights remaining at a level; 0.0 at one that is not defined."""
        if self.fraction is None:
            return (1.0, *self.densities)[level] if level <= len(self.densities) else 0.0
        return (1.0 - self.fraction) ** level


class Orders(RootModel[dict[Branch, Step]]):
    """How many data orders of each branch are trained at a level: `{imp: 2, random_prune: 1}`.

    IMP has one if it is not named, since the next level is made from it; other branches have none.
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _imp_is_trained(self) -> "Orders":
        if self.root.get("imp", 1) < 1:
            raise ValueError("imp: 0 leaves the next level nothing to prune; give 1 or more")
        if "dense" in self.root:
            raise ValueError("dense: is no branch of a level; give dense_orders")
        return self

    def of(self, branch: str) -> int:
        """Data orders of a branch."""
        return self.root.get(branch, int(branch == "imp"))


class Sweep(Model):
    """Levels 1..levels at each rewind iteration of `k`, with branches and further data orders at some levels.

    One-shot pruning, whose levels don't build on each other, may begin at a `first_level` above 1.
    """

    k: Annotated[tuple[Step, ...], Field(min_length=1)]
    levels: Count
    first_level: Count = 1
    at: dict[Count, Orders] = {}

    @model_validator(mode="after")
    def _levels_exist(self) -> "Sweep":
        if self.first_level > self.levels:
            raise ValueError(f"first_level: {self.first_level} is past the sweep's last level {self.levels}")
        for level in self.at:
            if level > self.levels:
                raise ValueError(f"at: level {level} is past the sweep's last level {self.levels}")
            if level < self.first_level:
                raise ValueError(f"at: level {level} is before the sweep's first level {self.first_level}")
        return self

    def trained(self) -> range:
        """The levels of the sweep."""
        return range(self.first_level, self.levels + 1)


class Line(Model):
    """Linear interpolation: points on the line, samples of each split that the error is measured on.

    With `points: 0` there is no line: of two networks only distance and angle are taken.
    """

    points: Step = 30
    train_samples: Count = 1500
    test_samples: Count = 1500

    @model_validator(mode="after")
    def _has_a_middle(self) -> "Line":
        if self.points in (1, 2):
            raise ValueError(f"points: {self.points} leave the line no middle; give 3 or more, or 0 for no line")
        return self


class Setting(Model):
    """One experiment at one scale. `change` overrides fields of the paper's recipe, `data` and `network` its own.

    At each k of `dense_orders` the dense network is trained again from its snapshot, `dense_copies` times, each time
    with another data order. With `restart`, what is trained from a snapshot trains all of the recipe's steps, the
    schedule and the optimizer from their beginning, so that the dense run is no longer one of the copies.
    The dense run saves a snapshot at each of `snapshots` too, for experiments that share it. `calibration`: bands for
    the means of the dense networks' measures; where one is missed, the run does not represent the recipe.
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
    snapshots: tuple[Step, ...] = ()
    line: Line = Line()
    calibration: dict[Gauge, Band] = {}

    @model_validator(mode="after")
    def _one_sweep_each(self) -> "Setting":
        grid = self.rewind_grid()
        if len(set(grid)) != len(grid):
            raise ValueError(f"sweeps: a rewind iteration is in two sweeps ({grid}); merge them")
        last = self.pruning.last_level
        for sweep in self.sweeps:
            if sweep.first_level > 1 and self.pruning.style != "one_shot":
                raise ValueError(f"sweeps: first_level {sweep.first_level} needs one-shot pruning; begin at level 1")
            if last and sweep.levels > last:
                raise ValueError(f"sweeps: level {sweep.levels} is past the {last} densities; give a smaller one")
        if self.restart and self.dense_orders and self.dense_copies < 2:
            raise ValueError("restart: the dense run is none of the copies then; give dense_copies 2 or more")
        for measure, (low, high) in self.calibration.items():
            if low >= high:
                raise ValueError(f"calibration.{measure}: [{low:g}, {high:g}] must be [low, high]")
        if self.calibration != self.bands:
            raise ValueError(
                "calibration.data_order_distance: needs dense networks of two orders; add 0 to dense_orders"
            )
        return self

    @property
    def bands(self) -> dict[Gauge, Band]:
        """The calibration bands of what is trained: a selection of claims may need no copies of the dense network."""
        left_out = () if 0 in self.dense_orders else ("data_order_distance",)
        return {measure: band for measure, band in self.calibration.items() if measure not in left_out}

    def rewind_grid(self) -> list[int]:
        """Every rewind iteration of the sweeps."""
        return [k for sweep in self.sweeps for k in sweep.k]

    def snapshot_steps(self) -> list[int]:
        """Steps at which the dense run saves a snapshot."""
        return sorted({0, *self.rewind_grid(), *self.dense_orders, *self.snapshots})


class Pinned(Model):
    """What a folder of pictures holds: its classes in their order, its pictures by part, and the digest of their files.

    `sha256` is that of the files' names and contents, so it is the same for a folder and for every archive of it.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    train: Count
    test: Count
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _pair(size: Any) -> Any:
    """One number as both sides of a square, a list as a tuple."""
    return (size, size) if type(size) is int else tuple(size) if isinstance(size, list) else size


class Pictures(Model):
    """A data set of one's own: pictures in train/<class>/ and test/<class>/ of a folder, or of an archive of it.

    `folder` is below the data folder, or a full path. A picture becomes `channels` x `size` pixels (height, width);
    `resize` says what is done about one of another size. `validation` is the share of train/ that is held out.
    With `pinned` nothing else is accepted, and the scale can be read where the pictures are not.
    """

    folder: Annotated[str, Field(min_length=1)]
    size: Annotated[tuple[Count, Count], BeforeValidator(_pair, json_schema_input_type=Count | tuple[Count, Count])]
    channels: Literal[1, 3] = 3
    resize: Literal["refuse", "stretch", "crop"] = "refuse"
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    pinned: Pinned | None = None

    @model_validator(mode="after")
    def _readable(self) -> "Pictures":
        if self.folder.startswith("~"):
            raise ValueError(f"folder: {self.folder!r}: ~ stands for nothing here; give the full path")
        if not self.folder.isprintable():
            raise ValueError(f"folder: {self.folder!r}: has characters that can't be printed; rename it")
        return self


class Scale(Model):
    """scales/<scale>.yaml. `papers_own`: the paper's networks, data sets and steps, so that sizes can be compared.

    `data` has the data sets of one's own, by the names under which experiments use them.
    `chosen`: how the settings were chosen, and what was known by then; the page shows it.
    """

    description: str
    chosen: str = ""
    judges_claims: bool
    papers_own: bool = False
    hardware: str
    data: dict[str, Pictures] = {}
    experiments: Annotated[dict[str, Setting], Field(min_length=1)]


#: the most that a field of any model may be: far above what a machine could train, and soon counted
LARGEST = {
    **dict.fromkeys(("replicates", "replicates_per_job", "levels", "levels_per_job", "first_level"), 1000),
    **dict.fromkeys(("dense_copies", "snip_batches", "at"), 100),  # `at`: data orders of a branch
    **dict.fromkeys(("points", "claims", "epochs", "threads", "gpu", "year"), 10_000),
    **dict.fromkeys(("k", "over", "dense_orders", "snapshots", "drops", "steps", "warmup"), 10**8),
    **dict.fromkeys(("batch_size", "train_samples", "test_samples", "minutes"), 10**8),
    **dict.fromkeys(("train", "test"), 10**8),  # pictures of a part
    "memory_mb": 10**9,
    "size": 4096,  # pixels of a picture's side
}
MOST_NETWORKS = 100_000  # of an experiment at one scale; the largest that ships has 5,367


def too_large(content: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """What is wrong with each number of checked content (models, and lists and mappings of them) above its bound."""
    bound = next((LARGEST[name] for name in reversed(place) if name in LARGEST), None)
    if isinstance(content, BaseModel):
        for name in type(content).model_fields:
            value = getattr(content, name)
            yield from too_large(value, place if name == "root" else (*place, name))
        if isinstance(content, Setting) and (trained := _networks(content)) > MOST_NETWORKS:
            yield f"{'.'.join(place)}: {trained:,} networks; give fewer replicates, k, levels or data orders"
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from too_large(value, (*place, str(name)))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from too_large(value, (*place, str(number)))
    elif type(content) is int and bound is not None and content > bound:
        yield f"{'.'.join(place)}: {content} is more than the {bound:,} that is possible here; give a smaller number"


def _networks(setting: Setting) -> int:
    """How many networks a setting trains, or more, as if each of its branches had every level."""
    of_replicate = 1 + len(setting.dense_orders) * setting.dense_copies
    for sweep in setting.sweeps:
        orders = sum(max(at.root.get("imp", 1) - 1, 0) + sum(at.root.values()) for at in sweep.at.values())
        branches = {"imp"}.union(*(at.root for at in sweep.at.values()))
        of_replicate += len(sweep.k) * (sweep.levels * len(branches) + orders)
    return setting.replicates * of_replicate
