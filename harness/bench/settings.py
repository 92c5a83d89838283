"""The measured groups, and the goals."""

from dataclasses import dataclass

MATRIX = 4096  # rows and columns of the matrices whose product gives the matrix rate
COPIED = 2**24  # numbers in the copy that gives the copy rate
LEAST_ROUNDS = 5  # do not quote numbers of fewer rounds
DENSITY = 0.512  # share of weights kept in the trained networks: three levels of the paper
DENSITIES = (1.0, 0.64, 0.41, 0.26, 0.168, 0.107, 0.035)  # at which a step's cost is compared with the dense engine's
LOADER_WORKERS = (0, 2)  # of the straightforward training's data loader; the faster one counts


@dataclass(frozen=True)
class Goal:
    """The least or the most that a figure of a record should be."""

    figure: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def text(self) -> str:
        """The goal as text, such as "≥ 18×" or "≥ 50%"."""
        limit, sign = (self.least, "≥") if self.least is not None else (self.most, "≤")
        return f"{sign} {FIGURES[self.figure].format(limit)}"


# figure of a record -> its format in a goal
FIGURES = {
    "ratio_to_straightforward": "{:g}×",
    "ratio_to_torch": "{:g}× torch",
    "ratio_to_one": "{:g}× one",
    "ratio_to_dense": "{:g}× dense",
    "share_of_arithmetic": "{:.0%}",
    "share_of_level": "{:.0%}",
    "share_of_run": "{:.0%}",
    "seconds_per_level": "{:g} s",
    "wall_clock_seconds": "{:g} s",
}


@dataclass(frozen=True)
class Row:
    """Networks that are trained together."""

    replicates: int
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Group:
    """An experiment of a scale whose training step is measured."""

    name: str
    title: str
    scale: str
    experiment: str
    rows: tuple[Row, ...]
    evaluated: tuple[int, ...] = ()  # training and test samples that a level's networks are evaluated on
    evaluated_here: int = 0  # how many of them are measured, as a sample of all; 0: all
    samples: int = 10_000  # random training samples; a step's cost does not depend on their number
    torch_engine: bool = False  # also measure the stacks without the harness's own kernels
    by_density: int = 0  # networks that are trained together at each of DENSITIES; 0: not measured
    density_goals: tuple[tuple[float, float], ...] = ()  # density, least ratio to the dense engine
    device: str = "cpu"


def _against(times: float) -> Goal:
    return Goal("ratio_to_straightforward", least=times)


GROUPS: tuple[Group, ...] = (
    Group(
        "lenet",
        "LeNet-300-100",
        "paper",
        "lenet",
        (
            Row(1, (_against(7),)),
            Row(4, (_against(18), Goal("share_of_arithmetic", least=0.5))),
            Row(8, (_against(18), Goal("share_of_arithmetic", least=0.5))),
        ),
        evaluated=(5_000, 10_000),
        by_density=8,
        density_goals=((0.107, 4), (0.035, 7)),
    ),
    Group(
        "resnet20",
        "ResNet-20",
        "paper",
        "resnet20-standard",
        (Row(1, (_against(1.5),)), Row(4, (_against(1.8), Goal("share_of_arithmetic", least=0.55)))),
        evaluated=(5_000, 10_000),
        evaluated_here=512,
        by_density=1,
        density_goals=((0.168, 2.5),),
    ),
    Group(
        "mini",
        "1-D ResNet-20",
        "mini",
        "resnet20-standard",
        (Row(6, (Goal("ratio_to_torch", least=3),)),),  # 3 replicates x 2 rewind points
        evaluated=(5_000, 12_000),
        samples=12_000,
        torch_engine=True,
        by_density=5,
        density_goals=((0.168, 2.2), (0.107, 2.8)),
    ),
    Group(
        "gpu",
        "ResNet-20",
        "paper",
        "resnet20-standard",
        (
            Row(1, (Goal("seconds_per_level", most=120),)),
            Row(4),
            Row(16, (Goal("ratio_to_one", least=8),)),  # 16 networks in twice the time of one
            Row(64),
        ),
        device="cuda",
    ),
    # most of the paper's steps on CIFAR-10: 453 of 535 million
    Group("gpu-vgg19", "VGG-19", "paper", "vgg19-standard", (Row(1), Row(4)), device="cuda"),
)
BETWEEN_LEVELS = Goal("share_of_level", most=0.02)
FIXED_COSTS = Goal("share_of_run", most=0.1)
WALL_CLOCK = Goal("wall_clock_seconds", most=1200)
