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
    "league",
]
#: what tells recipes apart in dense networks, see harness/claims/calibration.py
Gauge = Literal["test_accuracy", "train_loss", "data_order_distance"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Step = Annotated[int, Field(ge=0)]
Band = tuple[float, float]  # lowest, highest


class Recipe(Model):
    """How a network is trained; steps count minibatches. All fields enter the digest of a training."""

    optimizer: Literal["momentum", "adam", "rmsprop"]
    """SGD with momentum, Adam or RMSProp."""
    learning_rate: Annotated[float, Field(gt=0)]
    """The learning rate, after the warm-up and before any drop."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum of `momentum` and `rmsprop`."""
    rms_decay: Fraction | None = None
    """RMSProp's decay of the running mean of squared gradients."""
    rms_epsilon: Annotated[float, Field(gt=0)] | None = None
    """What RMSProp adds to the root of that mean."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty, added to the gradient."""
    batch_size: Count
    """Samples in a minibatch."""
    steps: Count
    """Length of a training, in minibatches."""
    warmup: Step = 0
    """Steps over which the learning rate rises linearly to its value."""
    drops: tuple[Count, ...] = ()
    """Steps at which the learning rate is multiplied by `drop_factor`."""
    drop_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """What a drop multiplies the learning rate by."""
    decay: Literal["none", "linear", "exponential"] = "none"
    """How the learning rate falls to `final_learning_rate` at the end of training. It excludes `drops`."""
    final_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """The learning rate at the end of a `decay`."""
    augmentation: Literal["none", "flip_crop", "resized_crop"] = "none"
    """What is done to training pictures: nothing; mirrored and shifted by up to 4 pixels; or, as for ImageNet, a random
    part, mirrored."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Precision of the products. Weights, sums and the optimizer are float32 always. `tf32` is a GPU's; `bfloat16` has
    no CPU kernels."""

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
    """One row of the paper's network tables."""

    title: str
    """The row's name on the page."""
    network: str
    """A network of `harness/networks/architectures/`."""
    data: str
    """A data set of `harness/data/sets/`."""
    recipe: Recipe
    """How the paper trains it."""
    source: str
    """Where the paper states this, and what was completed from elsewhere."""
    note: str = ""
    """Known slips and doubts."""
    epochs: Count | None = None
    """Length in epochs as the paper prints it, where its figures count rewind points in epochs."""


class Choice(Model):
    """A choice that the paper leaves open, how it was settled, and why."""

    choice: str
    """What the paper leaves open."""
    value: str
    """How it is settled here."""
    source: str
    """Why, or where that comes from."""


class PaperFigure(Model):
    """A figure or table of the paper and where the page shows the same measured here."""

    figure: str
    """Its name in the paper."""
    shows: str
    """What it shows."""
    published: str
    """How the rows of `published/*.csv` name it."""
    drawn_in: tuple[PageFigure, ...] = ()
    """The page's figures that show the same, measured here."""
    experiments: tuple[str, ...] = ()
    """The experiments that it is about."""
    note: str = ""
    """What differs."""


class Threshold(Model):
    """A bound that the page draws, in points, and whose it is."""

    value: Annotated[float, Field(gt=0)]
    """The bound, in percentage points."""
    source: str
    """Where the bound comes from."""


class Spread(Model):
    """What an error in published/*.csv says of how far single networks spread."""

    replicates: Annotated[int, Field(ge=2)]
    """How many networks the paper's means are over."""
    errors: dict[str, Annotated[float, Field(gt=0)]]
    """How many standard deviations a published error is, for `network` values and for each comparison of pairs: 1 where
    it is one, 0.846 where it is half the range of three normal values, 1.82 of eighteen."""
    unstated: dict[str, Annotated[float, Field(gt=0)]] = {}
    """The standard deviation to take where none is published, by experiment or else by measure."""


class Paper(Model):
    """A paper: its citation, the recipes of its networks, what it leaves open, and its figures.

    It has an `arxiv` number, a `doi` or a `url`; a study of one's own may have none.
    """

    id: str
    """The paper's short name: that of its folder."""
    title: str
    """Title."""
    authors: str
    """Authors."""
    arxiv: str = ""
    """arXiv number, as text."""
    doi: str = ""
    """Digital object identifier."""
    url: str = ""
    """Address of the paper."""
    year: int
    """Year of publication."""
    version: str = ""
    """The version that the numbers come from."""
    networks: dict[str, NetworkRecipe]
    """The rows of the paper's network tables, by name."""
    choices: tuple[Choice, ...]
    """What the paper leaves open, and how it is settled here. The page prints them."""
    claims: Step
    """How many claims `claims.yaml` has: a file that was cut between two would pass for a whole one."""
    published: Spread | None = None
    """What the errors in `published/*.csv` say. Without it, no measured size is held against the paper's."""
    figures: tuple[PaperFigure, ...] = ()
    """The paper's figures and tables, and where the page shows the same."""
    stable_below: Threshold | None = None
    """A network whose instability is below this counts as stable. Without it, the page draws no such line."""
    matching_within: Threshold | None = None
    """An accuracy this close to the dense network's counts as matching. Without it, the page draws no such line."""


def reference(arxiv: str, doi: str) -> str:
    """A paper's number as readers write it: `arXiv 2101.00001`, `doi:10.1000/182`, or nothing."""
    return f"arXiv {arxiv}" if arxiv else f"doi:{doi}" if doi else ""


class Experiment(Model):
    """A row of the paper's tables, or a variant of one. What is run of it is up to the scale."""

    title: str
    """Its name on the page."""
    network: str
    """A row of `networks` in `paper.yaml`."""
    question: str
    """What it asks."""
    untested: str = ""
    """Why it can't be run here. Only such an experiment may name a network that `paper.yaml` lacks."""
    draws: str = ""
    """Another experiment whose random draws it uses, so that equal trainings of the two are one."""


class Pruning(Model):
    """What remains at each level."""

    fraction: Fraction | None = None
    """The share of the surviving weights that each level prunes. Give this or `densities`."""
    densities: tuple[Fraction, ...] = ()
    """The share of prunable weights that remains at level 1, 2, and so on. One-shot pruning only."""
    style: Literal["iterative", "one_shot"] = "iterative"
    """`iterative` prunes the level before; `one_shot` prunes the dense network to every level at once."""
    criterion: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")] = "magnitude"
    """What ranks the weights: a file of `harness/lottery/criteria/`."""
    snip_batches: Count = 1
    """Minibatches for a criterion that looks at data. SNIP's sensitivity is summed over them."""

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
    """Levels at each rewind iteration, with branches and further data orders at some of them."""

    k: Annotated[tuple[Step, ...], Field(min_length=1)]
    """Rewind iterations."""
    levels: Count
    """The last level."""
    first_level: Count = 1
    """The first level. Above 1 for one-shot pruning only, whose levels don't build on each other."""
    at: dict[Count, Orders] = {}
    """By level, how many data orders of each branch are trained there."""

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
    """Linear interpolation between two networks."""

    points: Step = 30
    """Points on the line, both ends included. With 0 there is no line, only distance and angle."""
    train_samples: Count = 1500
    """Training samples that the error is measured on."""
    test_samples: Count = 1500
    """Test samples that the error is measured on."""

    @model_validator(mode="after")
    def _has_a_middle(self) -> "Line":
        if self.points in (1, 2):
            raise ValueError(f"points: {self.points} leave the line no middle; give 3 or more, or 0 for no line")
        return self


class Setting(Model):
    """One experiment at one scale."""

    network: str
    """The network, in place of the paper's."""
    data: str
    """The data set, in place of the paper's."""
    change: dict[str, Any] = {}
    """Fields of the paper's recipe that differ here, with their values."""
    pruning: Pruning
    """What each level prunes."""
    replicates: Count
    """Random initialisations."""
    replicates_per_job: Count
    """How many replicates a job trains as one stack."""
    levels_per_job: Count
    """How many levels a job trains in a row."""
    dense_orders: tuple[Step, ...] = ()
    """Steps from which the dense network is trained again, with other data orders."""
    dense_copies: Count = 1
    """How often that is done from each of these steps."""
    restart: bool = False
    """Train all of the recipe's steps from a snapshot, with schedule and optimizer from their beginning. The dense run
    is then none of the copies."""
    sweeps: tuple[Sweep, ...] = ()
    """The levels and rewind iterations to train."""
    snapshots: tuple[Step, ...] = ()
    """Further steps at which the dense run saves a snapshot, for experiments that share it."""
    line: Line = Line()
    """How the error between two networks is measured."""
    calibration: dict[Gauge, Band] = {}
    """Lowest and highest mean of a measure of the dense networks. Where a band is missed, the run does not represent
    the recipe, and no claim on the experiment is tested."""

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
    """What a folder of pictures holds."""

    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """The classes, in their order."""
    train: Count
    """Pictures in `train/`."""
    test: Count
    """Pictures in `test/`."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the files' names and contents: the same for a folder and for every archive of it."""


def _pair(size: Any) -> Any:
    """One number as both sides of a square, a list as a tuple."""
    return (size, size) if type(size) is int else tuple(size) if isinstance(size, list) else size


class Pictures(Model):
    """A data set of one's own: pictures in train/<class>/ and test/<class>/ of a folder, or of an archive of it."""

    folder: Annotated[str, Field(min_length=1)]
    """The folder or the archive: a path below the data folder, or a full path. `~` is not expanded."""
    size: Annotated[tuple[Count, Count], BeforeValidator(_pair, json_schema_input_type=Count | tuple[Count, Count])]
    """Pixels of a side, or `[height, width]`."""
    channels: Literal[1, 3] = 3
    """3: colours; grey levels become three equal channels. 1: grey levels; colours become their luminance."""
    resize: Literal["refuse", "stretch", "crop"] = "refuse"
    """What is done about a picture of another size. `refuse`: an error. `crop`: the largest middle part of the right
    shape, scaled. `stretch`: the whole, scaled."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of `train/` that is held out, drawn by seed."""
    pinned: Pinned | None = None
    """What the folder holds. With it, other pictures are refused, and the scale can be read where the pictures are not.
    """

    @model_validator(mode="after")
    def _readable(self) -> "Pictures":
        if self.folder.startswith("~"):
            raise ValueError(f"folder: {self.folder!r}: ~ stands for nothing here; give the full path")
        if not self.folder.isprintable():
            raise ValueError(f"folder: {self.folder!r}: has characters that can't be printed; rename it")
        return self


class Scale(Model):
    """What is run, at what size."""

    description: str
    """What the scale is, in a sentence or two."""
    chosen: str = ""
    """How the settings were chosen, and what was known by then. The page shows it."""
    judges_claims: bool
    """Whether it judges claims at all."""
    papers_own: bool = False
    """Whether networks, data sets and steps are the paper's own, so that sizes can be compared."""
    hardware: str
    """What it needs."""
    data: dict[str, Pictures] = {}
    """Data sets of one's own, by the names under which experiments use them."""
    experiments: Annotated[dict[str, Setting], Field(min_length=1)]
    """What is run of each experiment."""


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
