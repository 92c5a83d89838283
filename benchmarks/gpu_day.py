"""Result: none yet, no GPU was available. What a first hour on a GPU must answer, in one command of nine minutes:

are the bits those that the project promises, how fast is a step and against what limit, what does TF32 change, does a
recorded step pay, how do VGG-19 and the ImageNet networks fare, and does ResNet-20 learn CIFAR-10 in TF32 as it does
in float32. Each finding is one line; one that fails says so and the next goes on. What time does not allow is named.

Run: ``python -m benchmarks.gpu_day [--only bits,speed] [--minutes 9]`` from the root of the repository; ``--dry`` goes
through it on a CPU with a few samples, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from torch.nn import functional as F

from harness import data, kernels
from harness.base.devices import check_device, take_device
from harness.base.errors import HarnessError
from harness.base.paths import checkout
from harness.estimate.arithmetic import step_work
from harness.networks import build, initialise, prunable_names
from harness.networks.layers import Stack
from harness.paper import load_spec
from harness.paper.models import Recipe
from harness.training.batches import Batches
from harness.training.device import pick
from harness.training.graphed import Steps
from harness.training.loop import Stopped, evaluate, train, use_threads
from harness.training.recipe import learning_rate
from harness.training.state import read_network
from harness.training.step import take_step
from harness.training.updates import Updater

PAPER, PICTURES = "stabilizing-lth", "cifar-short"  # the scale that pins CIFAR-10's pictures
CIFAR = {"resnet20": "resnet20-standard", "vgg19": "vgg19-standard"}
IMAGENET = ("resnet50", "inception-v3", "squeezenet")
STACKS = (1, 4, 16, 64)
MARGIN = 0.5  # points of accuracy within which TF32 counts as equal, a choice: less than ResNet-20's calibration band
LEARNED_STEPS, REPLICATES = 3000, 5  # of the comparison of accuracies


class Day:
    """The device, the paper's recipes, and the time that is left."""

    def __init__(self, minutes: float, dry: bool, data_set: str):
        self.dry, self.data_set = dry, data_set
        self.end = time.monotonic() + 60 * minutes
        self.device = torch.device("cpu") if dry else pick()
        self.spec = load_spec(checkout(), PAPER, "paper")
        self.pictures = load_spec(checkout(), PAPER, PICTURES).scale.data

    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def recipe(self, experiment: str, **changes: object) -> Recipe:
        """A recipe of the paper's scale; in a dry run with few samples."""
        few = {"batch_size": 4} if self.dry else {}
        return self.spec.recipe(experiment).model_copy(update={**few, **changes})

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def milliseconds(self, step: Callable[[], object], steps: int = 30, warm: int = 5) -> float:
        """The time of one of many steps that are asked for together, as in training."""
        steps, warm = (1, 1) if self.dry else (steps, warm)
        for _ in range(warm):
            step()
        self.wait()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        self.wait()
        return 1e3 * (time.perf_counter() - began) / steps


class Training:
    """A stack in training on random samples."""

    def __init__(self, name: str, recipe: Recipe, names: list[int], device: torch.device, shape: tuple[int, ...]):
        use_threads(1, recipe.precision)
        generator, labels = torch.Generator().manual_seed(0), 10
        x, y = torch.randn(2000, *shape, generator=generator), torch.randint(0, labels, (2000,), generator=generator)
        seeds: list[tuple[str | int, ...]] = [("gpu day", name) for name in names]
        self.network, self.recipe, self.number = build(name, len(names), shape, labels), recipe, 0
        initialise(self.network, seeds)
        self.network.to(device).train()
        masks = {name: torch.ones_like(self.network.get_parameter(name)) for name in prunable_names(self.network)}
        self.updater = Updater(recipe, dict(self.network.named_parameters()), masks)
        self.batches = Batches(x.to(device), y.to(device), recipe.batch_size, seeds, recipe.augmentation)

    def step(self) -> Tensor:
        x, y = self.batches.batch(self.number)
        self.number += 1
        return take_step(self.network, x, y, self.updater, learning_rate(self.recipe, self.number - 1))

    def recorded(self) -> Callable[[], Tensor]:
        """The same steps, of which the fifth and later ones are replays of a graph on a GPU."""
        steps = Steps(self.network, self.updater, self.batches, 0)

        def step() -> Tensor:
            self.number += 1
            return steps.take(self.number - 1)

        return step

    def weights(self, place: int = 0) -> list[Tensor]:
        return [value[place].detach().cpu().clone() for value in self.network.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> str:
    """Whether weights have the same bits; if not, how far they are apart in all."""
    if all(torch.equal(own, other) for own, other in zip(a, b, strict=True)):
        return "the same bits"
    gap = sum(float((own - other).square().sum()) for own, other in zip(a, b, strict=True))
    return f"OTHER BITS, {math.sqrt(gap / sum(float(own.square().sum()) for own in a)):.1e} apart"


SHAPES = {"lenet-300-100": (1, 28, 28), "resnet20": (3, 32, 32), "vgg19": (3, 32, 32)}
EXPERIMENTS = {"lenet-300-100": "lenet", **CIFAR}


def machine(day: Day) -> Iterator[str]:
    """What is measured here, and its rates: matrices of 4096 and copies of 64 MiB."""
    yield f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    if not day.dry:
        card = torch.cuda.get_device_properties(day.device)
        yield f"{card.name}, {card.multi_processor_count} processors, {card.total_memory / 2**30:.0f} GiB"
    for precision in ("float32", "tf32", "bfloat16"):
        rate = matrix_rate(day, precision)
        yield f"matrix rate, {precision}: {rate / 1e12:.1f} TFLOP/s"
    yield f"copy rate: {copy_rate(day) / 1e9:.0f} GB/s"


def matrix_rate(day: Day, precision: str) -> float:
    """Operations per second of the product of two large matrices."""
    use_threads(1, precision)
    size = 64 if day.dry else 4096
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b, out = (torch.rand(size, size, device=day.device, dtype=dtype) for _ in range(3))
    return 2 * size**3 / day.milliseconds(partial(torch.mm, a, b, out=out)) * 1e3


def copy_rate(day: Day) -> float:
    """Bytes read and written per second by the copy of a large array."""
    a, out = (torch.rand(1000 if day.dry else 2**24, device=day.device) for _ in range(2))
    return 8 * a.numel() / day.milliseconds(partial(out.copy_, a)) * 1e3


def bits(day: Day) -> Iterator[str]:
    """Twice, alone and in a stack of four, recorded and not, in float32 and TF32; and against the CPU."""
    steps = 5 if day.dry else 20
    for name, experiment in EXPERIMENTS.items():
        for precision in ("float32", "tf32"):
            recipe = day.recipe(experiment, precision=precision, warmup=0)
            make = partial(Training, name, recipe, device=day.device, shape=SHAPES[name])
            alone, again, stack, recorded = (make(names=names) for names in ([2], [2], [0, 1, 2, 3], [0, 1, 2, 3]))
            replay = recorded.recorded()
            for _ in range(steps):
                for step in (alone.step, again.step, stack.step, replay):
                    step()
            first = alone.weights()
            yield (
                f"{name}, {precision}: twice {same(first, again.weights())}; in a stack of four "
                f"{same(first, stack.weights(2))}; recorded {same(stack.weights(1), recorded.weights(1))}"
            )
        recipe, devices = day.recipe(experiment, warmup=0), (torch.device("cpu"), day.device)
        on_cpu, here = (Training(name, recipe, [0], device, SHAPES[name]) for device in devices)
        for _ in range(2 if name == "vgg19" else 5):
            on_cpu.step()
            here.step()
        yield f"{name}, float32: {same(on_cpu.weights(), here.weights())} as on the CPU; others are to be expected"


def waits(day: Day) -> Iterator[str]:
    """No step may wait for the device."""
    for name, experiment in EXPERIMENTS.items():
        training = Training(name, day.recipe(experiment), [0, 1], day.device, SHAPES[name])
        training.step()
        if not day.dry:
            torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                training.step()
        finally:
            if not day.dry:
                torch.cuda.set_sync_debug_mode("default")
        yield f"{name}: no step waits for the device"


def speed(day: Day) -> Iterator[str]:
    """Steps of stacks, recorded and not; the share of the matrix rate; the most memory."""
    for name, experiment in EXPERIMENTS.items():
        for precision in ("float32", "tf32"):
            recipe, rate = day.recipe(experiment, precision=precision), matrix_rate(day, precision)
            flops = step_work(name, SHAPES[name], 10, recipe).flops
            for size in STACKS[:1] if day.dry or name == "vgg19" else STACKS:
                if not day.dry:
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                training = Training(name, recipe, list(range(size)), day.device, SHAPES[name])
                eager = day.milliseconds(training.step, max(3, 60 // size))
                training = Training(name, recipe, list(range(size)), day.device, SHAPES[name])
                replay = day.milliseconds(training.recorded(), max(3, 200 // size))
                peak = "" if day.dry else f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"
                share = size * flops / min(eager, replay) * 1e3 / rate
                images = size * recipe.batch_size / min(eager, replay) * 1e3
                yield (
                    f"{name}, {precision}, {size} at once: {eager:.2f} ms a step, recorded {replay:.2f}; "
                    f"{images:,.0f} images/s, {share:.0%} of the matrix rate{peak}"
                )


def layouts(day: Day) -> Iterator[str]:
    """ResNet-20 and VGG-19 with images channels-last, as they are, and channels-first."""
    for name, experiment in CIFAR.items():
        for precision in ("float32", "tf32"):
            times = {}
            for layout in (torch.channels_last, torch.contiguous_format):
                training = Training(name, day.recipe(experiment, precision=precision), [0], day.device, SHAPES[name])
                training.network.memory_format = layout
                times[layout] = day.milliseconds(training.recorded())
            last, first = times.values()
            yield f"{name}, {precision}: channels-last {last:.2f} ms, channels-first {first:.2f} ms"


def grouped(day: Day) -> Iterator[str]:
    """A stack's convolution as one grouped kernel and one by one, forward and back."""
    size, samples = (2, 2) if day.dry else (16, 128)
    for channels, pixels in ((16, 32), (32, 16), (64, 8)):
        for precision in ("float32", "tf32"):
            use_threads(1, precision)
            x = torch.randn(samples, size * channels, pixels, pixels, device=day.device, requires_grad=True)
            weight = torch.randn(size * channels, channels, 3, 3, device=day.device, requires_grad=True)
            xs = [part.detach().contiguous().requires_grad_() for part in x.chunk(size, 1)]
            weights = [part.detach().requires_grad_() for part in weight.chunk(size)]

            def convolve(x: Tensor, weight: Tensor, groups: int = 1) -> None:
                y = F.conv2d(x, weight, padding=1, groups=groups)
                torch.autograd.grad(y, (x, weight), torch.ones_like(y))

            together = day.milliseconds(partial(convolve, x, weight, size))
            apart = day.milliseconds(lambda: list(map(convolve, xs, weights)))  # noqa: B023
            yield f"{size} x {channels} channels, {precision}: grouped {together:.2f} ms, one by one {apart:.2f} ms"


def imagenet(day: Day) -> Iterator[str]:
    """Steps of the ImageNet networks in bfloat16, on random images."""
    for name in IMAGENET:
        recipe = day.recipe(name)
        pixels = 299 if name == "inception-v3" else 64 if day.dry else 224
        use_threads(1, recipe.precision)
        for layout in (torch.channels_last, torch.contiguous_format)[: 1 if day.dry else 2]:
            network: Stack = build(name, 1, (3, pixels, pixels), 1000)
            initialise(network, [("gpu day", 0)])
            network.memory_format = layout
            network.to(day.device).train()
            updater = Updater(recipe, dict(network.named_parameters()), {})
            x = torch.randn(1, recipe.batch_size, 3, pixels, pixels, device=day.device)
            y = torch.randint(0, 1000, (1, recipe.batch_size), device=day.device)
            if not day.dry:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            step = partial(take_step, network, x, y, updater, 0.01)
            try:
                ms = day.milliseconds(step, 5, 2)
            except torch.OutOfMemoryError:
                yield f"{name}, {layout}: out of memory with {recipe.batch_size} images"
                continue
            peak = "" if day.dry else f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"
            yield f"{name}, {layout}: {ms:.0f} ms a step, {recipe.batch_size / ms * 1e3:,.0f} images/s{peak}"


def accuracy(day: Day) -> Iterator[str]:
    """ResNet-20 on the real pictures, in float32 and TF32 from the same weights in the same orders, as time allows."""
    record = Path("results") / "gpu-day" / "data" / f"{day.data_set}.json"
    if not record.exists():
        record.parent.mkdir(parents=True, exist_ok=True)
        data.prepare(day.data_set, record, day.pictures)
    pictures = data.load(record)
    x, y = ({split: part.to(day.device) for split, part in parts.items()} for parts in (pictures.x, pictures.y))
    steps, replicates = (2, 2) if day.dry else (LEARNED_STEPS, REPLICATES)
    drops = (steps // 2, steps * 3 // 4)
    seeds: list[tuple[str | int, ...]] = [("gpu day", replicate) for replicate in range(replicates)]
    reached: list[np.ndarray] = []
    for precision in ("float32", "tf32"):
        recipe = day.recipe("resnet20-standard", precision=precision, steps=steps, drops=drops)
        use_threads(1, precision)
        network = build("resnet20", replicates, pictures.input_shape, pictures.classes)
        initialise(network, seeds)
        network.to(day.device)
        batches = Batches(x["train"], y["train"], recipe.batch_size, seeds, recipe.augmentation)
        until, began = time.monotonic() + day.left() / (2 - len(reached)), time.monotonic()
        try:
            train(
                network,
                recipe,
                batches,
                read_network(network, 0),
                keep_state=lambda *_: None,
                stopping=lambda: time.monotonic() > until,  # noqa: B023
            )
        except Stopped as stopped:
            yield f"{precision}: time ended after {stopped} of {steps} steps; accuracies are not compared"
            return
        most = 64 if day.dry else None
        reached.append(evaluate(network, x["test"][:most], y["test"][:most])[0].numpy())
        yield f"{precision}: {reached[-1].mean():.2f}% after {steps} steps in {time.monotonic() - began:.0f} s"
    gaps = reached[1] - reached[0]
    half = student.ppf(0.95, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))
    low, high = gaps.mean() - half, gaps.mean() + half
    verdict = "equivalent" if low > -MARGIN and high < MARGIN else "not shown to be equivalent"
    measured = f"{low:+.2f} to {high:+.2f} points (90%, {len(gaps)} replicates)"
    yield f"TF32 less float32: {measured}: {verdict} at {MARGIN} points"


SECTIONS = (machine, waits, bits, speed, layouts, grouped, imagenet, accuracy)


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Print a failure as a finding, with where it happened, and go on."""
    try:
        yield
    except HarnessError as error:
        print(f"{name}: not measured: {error}", flush=True)
    except Exception as error:
        print(f"{name}: FAILED: {type(error).__name__}: {str(error)[:300]}", flush=True)
        traceback.print_exc(limit=-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument("--only", default=",".join(names), help="sections, such as bits,speed")
    parser.add_argument("--minutes", type=float, default=9.0, help="no section starts, and no finding, after so many")
    parser.add_argument("--data", default="cifar10-jpeg", help="the pictures to learn: cifar10-jpeg or cifar10")
    parser.add_argument("--dry", action="store_true", help="go through it on a CPU")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(names)
    if unknown:
        parser.error(f"--only {','.join(sorted(unknown))}: choose of {','.join(names)}")
    if not options.dry:
        take_device()
        check_device()
        if pick().type != "cuda":
            parser.error("PyTorch finds no GPU here; --dry goes through it on the CPU")
    with kernels.without():
        run(Day(options.minutes, options.dry, options.data), options.only.split(","))


def run(day: Day, names: list[str]) -> None:
    """Print the findings of the sections of these names, in order, until the time ends."""
    for section in SECTIONS:
        name = section.__name__
        if name not in names:
            continue
        began = time.monotonic()
        with reported(name):
            findings = section(day)
            while day.left() > 0 and (finding := next(findings, None)) is not None:
                print(f"{name}: {finding}", flush=True)
        ended = "" if day.left() > 0 else "; no time for the rest"
        print(f"-- {name}: {time.monotonic() - began:.0f} s{ended}", flush=True)


if __name__ == "__main__":
    main()
