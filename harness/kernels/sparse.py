"""Layers by kept weight: what a mask has pruned is neither read nor computed.

Dense or sparse is chosen for each layer and mask by its density. Outputs and gradients to inputs have the bits of the
dense kernels; weight gradients sum over samples in another order.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.kernels import LANES
from harness.kernels.dense import Memory, Rows, update
from harness.kernels.maps import BLOCK, Geometry, Shape, geometries, maps_of
from harness.kernels.program import (
    GATHER,
    SPARSE_BIAS,
    SPARSE_CONVOLVE,
    SPARSE_GRADIENT,
    SPARSE_ROWS,
    SPARSE_WEIGHT_GRADIENT,
    TO_BLOCKS,
    TO_ROWS,
    Program,
)

CHUNK_BYTES = 24_000  # bytes of inputs in a chunk, which the first-level cache holds
FEWEST_KEPT = 8  # kept weights for each output in a chunk, below which there are fewer chunks
# the density below which a layer's step costs less by its kept weights: benchmarks/results/break_even.txt
BREAK_EVEN = {"linear": 0.65, "1d": 0.55, "2d": 0.4, "1d strided": 0.4, "2d strided": 0.2}


@contextmanager
def without() -> Iterator[None]:
    """Compute every layer by all its weights in programs that are written inside the block."""
    before = dict(BREAK_EVEN)
    BREAK_EVEN.update(dict.fromkeys(BREAK_EVEN, 0.0))
    try:
        yield
    finally:
        BREAK_EVEN.update(before)


def pays(mask: Tensor, shape: Shape | None = None) -> bool:
    """Whether a fully connected layer, or a convolution of some shape, is computed by the kept weights of its mask."""
    kind = "linear"
    if shape:
        kind = f"{len(shape.size)}d{' strided' if shape.stride > 1 else ''}"
    elif len(mask) < LANES:
        return False  # the rows of its input are shorter than a vector
    return int(mask.count_nonzero()) < BREAK_EVEN[kind] * mask.numel()


class _Kept(ctypes.Structure):
    arrays: tuple[np.ndarray, ...]  # what it points to lives as long as it

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("outputs", "inputs", "chunks", "blocks", "relu")],
        *[(name, ctypes.c_void_p) for name in ("start", "output", "input")],
    ]


class _KeptMap(ctypes.Structure):
    arrays: tuple[np.ndarray, ...]
    places: np.ndarray

    _fields_ = [
        ("map", Geometry),
        *[(name, ctypes.c_int64) for name in ("add", "tiles", "step", "bands")],
        *[(name, ctypes.c_void_p) for name in ("start", "distance", "input", "tap", "weight", "tile", "inner")],
        *[(name, ctypes.c_void_p) for name in ("run", "length", "edge", "run_of", "edge_of")],
    ]


def to_blocks(program: Program, rows: Tensor | Rows) -> Tensor:
    """Rows [N, C] as blocks [ceil(N / BLOCK), C, BLOCK]; missing samples are zero."""
    samples, columns = (len(rows.chosen), rows.features) if isinstance(rows, Rows) else rows.shape
    blocks = program.buffer(-(-samples // BLOCK), columns, BLOCK)
    if isinstance(rows, Rows):
        program.add(TO_BLOCKS, (blocks, None, rows.chosen), (samples, columns), rows.source)
    else:
        program.add(TO_BLOCKS, (blocks, rows), (samples, columns))
    return blocks


def to_rows(program: Program, blocks: Tensor, samples: int) -> Tensor:
    """The reverse of `to_blocks`."""
    rows = program.buffer(samples, blocks.shape[1])
    program.add(TO_ROWS, (rows, blocks), rows.shape)
    return rows


class Kept(NamedTuple):
    """Kept weights of a layer of `shape` (outputs, inputs), in the order of (chunk of inputs, output, input).

    `places` are the weights' places in some tensor; start[c * outputs + i] is the first of chunk c and output i.
    """

    shape: tuple[int, int]
    chunks: int
    start: np.ndarray
    outputs: np.ndarray
    inputs: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, outputs: np.ndarray, inputs: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> "Kept":
        """Kept weights in any order."""
        chunks = max(1, min(shape[1] * BLOCK * 4 // CHUNK_BYTES, len(outputs) // (FEWEST_KEPT * shape[0])))
        chunk = inputs * chunks // shape[1]
        order = np.lexsort((inputs, outputs, chunk))
        bounds = np.arange(chunks * shape[0] + 1)
        start = np.searchsorted((chunk * shape[0] + outputs)[order], bounds).astype(np.int64)
        return cls(shape, chunks, start, *(part[order].astype(np.int32) for part in (outputs, inputs, places)))

    def structure(self, blocks: int, relu: bool) -> _Kept:
        """The structure for the kernels, for so many blocks of samples."""
        arrays = (self.start, self.outputs, self.inputs)
        structure = _Kept(*self.shape, self.chunks, blocks, int(relu), *(array.ctypes.data for array in arrays))
        structure.arrays = arrays
        return structure


class Layer:
    """A `Linear` of few kept weights in a program: blocks x [B, inputs, BLOCK] -> `y` [B, outputs, BLOCK], [ReLU]."""

    def __init__(self, program: Program, x: Tensor, linear: Any, mask: Tensor, memory: Memory | None, *, relu: bool):
        self.linear, self.x, self.memory = linear, x, memory
        inputs, outputs = linear.weight.shape[1:]
        into, onto = np.nonzero(mask.numpy())
        self.kept = Kept.of(onto, into, into * outputs + onto, (outputs, inputs))
        if memory:
            self.values, *self.slots = memory.kept(linear.weight, program.replicate, self.kept.places)
        else:
            self.values = gathered(program, program.own(linear.weight), self.kept.places)
        self.settings = self.kept.structure(len(x), relu)
        self.y = program.buffer(len(x), outputs, BLOCK)
        program.add(SPARSE_ROWS, (self.y, x, self.values, program.own(linear.bias), None), (), self.settings)

    def backward(self, program: Program, dy: Tensor, *, further: bool) -> Tensor | None:
        """Take dy, the gradient to `y`, and move the parameters; return the gradient to x if `further`, else None.

        x is the output of a ReLU, so its gradient is passed on only where x > 0.
        """
        if self.memory is None:
            raise ValueError("only an optimizer's step goes back through a layer by its kept weights")
        dx = None
        if further:
            order = np.arange(len(self.kept.places))
            back = Kept.of(self.kept.inputs, self.kept.outputs, order, self.kept.shape[::-1])
            values = gathered(program, self.values, back.places)
            settings = back.structure(len(dy), relu=False)
            dx = program.buffer(*self.x.shape)
            program.add(SPARSE_ROWS, (dx, dy, values, None, self.x), (), settings)
        program.add(SPARSE_GRADIENT, (dy, self.x, self.memory.constants, self.values, *self.slots), (), self.settings)
        program.add(SPARSE_BIAS, (program.gradient(self.linear.bias), dy), (), self.settings)
        update(program, self.linear.bias, self.memory)
        return dx


def gathered(program: Program, values: Tensor, places: np.ndarray) -> Tensor:
    """The values at some places of a tensor, as they are when the program comes to it."""
    out = program.buffer(max(1, len(places)))
    program.add(GATHER, (out, values, torch.from_numpy(places)), (len(places),))
    return out


TILE = 4  # positions of a tile, as in operations.h
WIDEST_VECTOR = 16  # numbers of the widest vector
FEWEST_POSITIONS = 4  # positions of a band


class Convolution:
    """A convolution of few kept weights in a program: maps x [B, C, P, N] -> `y` [B, O, Q, N]; a mask [O, C, *k]."""

    def __init__(self, program: Program, x: Tensor, weight: nn.Parameter, mask: Tensor, shape: Shape):
        self.x, self.weight = x, weight
        self.kept = mask.flatten(2).numpy()
        self.y = maps_of(program, shape)
        self.forward, self.backward = geometries(shape, self.y.shape[2], x.shape[2])
        self.settings = _kept_map(self.forward, self.kept, add=False)
        self._convolve(program, self.y, x, self.settings)

    def _convolve(self, program: Program, out: Tensor, x: Tensor, settings: _KeptMap) -> None:
        values = gathered(program, program.own(self.weight), settings.places)
        program.add(SPARSE_CONVOLVE, (out, x, values), (), settings)
        program.give_back(values)

    def input_gradient(self, program: Program, dy: Tensor, into: Tensor | None = None) -> Tensor:
        """Gradient to x, added to `into` if given."""
        dx = program.buffer(*self.x.shape) if into is None else into
        settings = _kept_map(self.backward, self.kept, add=into is not None, backward=True)
        self._convolve(program, dx, dy, settings)
        return dx

    def weight_gradient(self, program: Program, dy: Tensor) -> None:
        """Write the gradient of the kept weights to their places."""
        products = program.buffer(max(1, len(self.settings.places)), WIDEST_VECTOR)
        operands = (program.gradient(self.weight), dy, self.x, products)
        program.add(SPARSE_WEIGHT_GRADIENT, operands, (), self.settings)
        program.give_back(products)


def _kept_map(geometry: Geometry, kept: np.ndarray, *, add: bool, backward: bool = False) -> _KeptMap:
    """The structure of the kept weights [O, C, taps] of a convolution, or of its gradient to the input."""
    under, samples = geometry.table, geometry.samples
    places = np.arange(kept.size, dtype=np.int32).reshape(kept.shape)
    if backward:
        kept, places = kept.swapaxes(0, 1), places.swapaxes(0, 1)
    outputs, taps, inputs = np.nonzero(kept.swapaxes(1, 2))
    centre = under[:, geometry.taps // 2]
    valid: np.ndarray = np.asarray((under >= 0).all(axis=1))
    distances, step = np.zeros(geometry.taps, np.int64), 0
    if valid.any():
        distances = (under - centre[:, None])[valid][0].astype(np.int64)
        valid &= np.equal(under - centre[:, None], distances).all(axis=1)
        step = int(np.diff(centre)[valid.nonzero()[0][:-1]].min(initial=len(under)))
    tiles, inner = _tiles(valid, centre, step, geometry.line)
    size = max(FEWEST_POSITIONS, CHUNK_BYTES // (4 * samples * kept.shape[1]))
    bands = -(-len(under) // size)
    bounds = np.arange(bands + 1) * size
    edge, inside = np.flatnonzero(~valid), np.flatnonzero(valid)
    # a run ends where the next position is not inside, lies in another band, or is another step away in the input
    apart = np.ones(len(inside) + 1, bool)
    apart[1:-1] = (np.diff(inside) != 1) | (np.diff(centre[inside]) != 1) | (np.diff(inside // size) != 0)
    run, length = inside[apart[:-1]], np.diff(np.flatnonzero(apart))
    arrays = (
        np.searchsorted(outputs, np.arange(len(kept) + 1)).astype(np.int64),
        inputs * geometry.in_row + distances[taps] * samples,
        inputs.astype(np.int32),
        taps.astype(np.int32),
        places.swapaxes(1, 2)[outputs, taps, inputs].astype(np.int32),
        tiles,
        inner,
        run.astype(np.int32),
        length.astype(np.int32),
        edge.astype(np.int32),
        np.searchsorted(run, bounds).astype(np.int64),
        np.searchsorted(edge, bounds).astype(np.int64),
    )
    pointers = (array.ctypes.data for array in arrays)
    structure = _KeptMap(geometry, int(add), len(tiles), step * samples, bands, *pointers)
    structure.arrays, structure.places = (under, *arrays), arrays[4]
    return structure


def _tiles(inside: np.ndarray, centre: np.ndarray, step: int, line: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in tiles [T, TILE], filled up with -1, and whether a tile is inside the map, in equal steps."""
    tiles: list[list[int]] = []
    for position in np.flatnonzero(inside).tolist():
        last = tiles[-1] if tiles else []
        if 0 < len(last) < TILE and last[-1] == position - 1 and centre[position] - centre[position - 1] == step:
            last.append(position)
        else:
            tiles.append([position])
    count = len(tiles)
    edge = np.flatnonzero(~inside).tolist()
    tiles += [edge[first : first + TILE] for first in range(0, len(edge), TILE)]
    filled = np.array([tile + [-1] * (TILE - len(tile)) for tile in tiles], np.int32)
    # down the map in strips of a tile's width: of what lies under the taps, only the last line is new
    order = np.lexsort((filled[:, 0], filled[:, 0] % line // TILE))
    return filled[order], (order < count).astype(np.int32)
