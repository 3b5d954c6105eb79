"""The space of plans for one convolution on one device, flat for searchers.

A point is a flat table of scalars: `layout`, `slices`, `block_kib` and `threads` for slices on a
CPU; `layout`, `tile_filters`, `tile_windows`, `tile_depth`, `warps`, `stages` and `precision` for
the Triton kernel. A point is feasible or not for the shape that it is to compute.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf, prod
from typing import Any, Literal

from search_spaces.conv_plan import SMALLEST_TILE, ConvPlan, Tiles, shares_windows
from search_spaces.conv_shape import ConvShape
from search_spaces.errors import InputError

Scalar = str | int
WARP = 32
"""Threads."""
MOST_SUMS = 128
"""Of a thread, float32 in registers: half of the 255 that it can have."""


@dataclass(frozen=True)
class PlanSpace:
    """The plans on offer for one shape.

    Args:
        shape: what is computed.
        method: by which of the methods that can be tuned.
        layout: on offer, as are the rest.
        slices: the Triton kernel takes columns alone.
        block_kib: as `ConvPlan` takes it.
        threads: of the CPU.
        tile_filters: as `Tiles.filters`; the next ones, too.
        tile_windows: places.
        tile_depth: products added up at a time.
        warps: of a program.
        stages: of its pipeline.
        precision: of float32 products.
        shared_memory: bytes that a program may have on the GPU.
        element_size: bytes of a number.
    """

    shape: ConvShape
    method: Literal["slices", "triton"] = "slices"
    layout: tuple[str, ...] = ("nchw", "nhwc")
    slices: tuple[str, ...] = ("rows", "columns")
    block_kib: tuple[int, ...] = (2048, 512, 1024, 4096, 8192, 0)
    threads: tuple[int, ...] = (1,)
    tile_filters: tuple[int, ...] = (64, 16, 32, 128)
    tile_windows: tuple[int, ...] = (64, 16, 32, 128, 256)
    tile_depth: tuple[int, ...] = (32, 16, 64)
    warps: tuple[int, ...] = (4, 2, 8)
    stages: tuple[int, ...] = (3, 1, 2, 4)
    precision: tuple[str, ...] = ("ieee",)
    shared_memory: int = 99 * 1024
    element_size: int = 4

    def __post_init__(self) -> None:
        if self.method not in ("slices", "triton"):
            raise InputError(f"plans: method {self.method!r} has nothing to tune")
        for name, values in self.choices().items():
            if not values or len(set(values)) < len(values):
                raise InputError(f"plans: {name} has no values or one of them twice: {values}")
        if next(self.points(), None) is None:
            raise InputError(
                f"plans: none of those on offer suits {self.shape}: windows share nothing along "
                "the slices on offer, or tiles need more memory than there is"
            )

    def choices(self) -> dict[str, tuple[Scalar, ...]]:
        """One categorical dimension a parameter, as a searcher sees them."""
        if self.method == "slices":
            names = ["layout", "slices", "block_kib", "threads"]
        else:
            tiles = ["tile_filters", "tile_windows", "tile_depth"]
            names = ["layout", *tiles, "warps", "stages", "precision"]
        return {name: getattr(self, name) for name in names}

    @property
    def size(self) -> int:
        """Points of `choices`, feasible or not."""
        return prod(len(values) for values in self.choices().values())

    def from_flat(self, flat: Mapping[str, Any]) -> ConvPlan:
        """The plan of a point, of which further entries are ignored."""
        point = {name: flat[name] for name in self.choices()}
        if self.method == "slices":
            return ConvPlan("slices", **point)
        layout = point.pop("layout")
        tiles = {name.removeprefix("tile_"): value for name, value in point.items()}
        return ConvPlan("triton", layout, "columns", tiles=Tiles(**tiles))

    def to_flat(self, plan: ConvPlan) -> dict[str, Scalar]:
        """The point that stands for a plan; the inverse of `from_flat`."""
        values = {**plan.to_dict(), **plan.to_dict()["tiles"]}
        sides = {f"tile_{name}": values[name] for name in ("filters", "windows", "depth")}
        values.update(sides)
        return {name: values[name] for name in self.choices()}

    def is_feasible(self, flat: Mapping[str, Any]) -> bool:
        """Whether it is worth measuring: it runs, it shares windows, and no smaller one is equal.

        A block beyond the smallest on offer that holds everything is equal to that, and a tile
        twice as long as what there is, to half of it.
        """
        plan = self.from_flat(flat)
        if not shares_windows(self.shape, plan.slices):
            return False
        return self._block_is_needed(plan) if self.method == "slices" else self._tiles_fit(plan)

    def points(self) -> Iterator[dict[str, Scalar]]:
        """All feasible points; the first is that of the first values where that is feasible."""
        choices = self.choices()
        for values in product(*choices.values()):
            point = dict(zip(choices, values, strict=True))
            if self.is_feasible(point):
                yield point

    @cached_property
    def plans(self) -> tuple[ConvPlan, ...]:
        """Those of all feasible points, in the same order."""
        return tuple(self.from_flat(point) for point in self.points())

    def contains(self, plan: ConvPlan) -> bool:
        """Whether a plan is that of a feasible point."""
        return plan in self.plans

    def sample(self, rng: random.Random) -> ConvPlan:
        """One of the feasible plans, each as likely."""
        return rng.choice(self.plans)

    def _block_is_needed(self, plan: ConvPlan) -> bool:
        shape = self.shape if plan.slices == "rows" else self.shape.transposed
        starts = [divmod(u * shape.dilation[0], shape.stride[0]) for u in range(shape.kernel[0])]
        rows = len({r for _, r in starts}) * (shape.output[0] + max(q for q, _ in starts))
        windows = rows * shape.channels * shape.kernel[1] * shape.output[1]
        sums = shape.filters * shape.output[0] * shape.output[1]
        needed = shape.batch * (windows + sums) * self.element_size
        enough = [kib for kib in self.block_kib if _bytes(kib) >= needed]
        return plan.block_kib not in enough or plan.block_kib == min(enough, key=_bytes)

    def _tiles_fit(self, plan: ConvPlan) -> bool:
        tiles, shape = plan.tiles, self.shape
        numbers = (tiles.filters + tiles.windows) * tiles.depth
        sums = tiles.filters * tiles.windows / (WARP * tiles.warps)
        depth = shape.channels // shape.groups * shape.kernel[0] * shape.kernel[1]
        return (
            numbers * self.element_size * tiles.stages <= self.shared_memory
            and sums <= MOST_SUMS
            and _is_needed(tiles.filters, shape.filters // shape.groups)
            and _is_needed(tiles.windows, shape.batch * shape.output[0] * shape.output[1])
            and _is_needed(tiles.depth, depth)
        )


def _bytes(block_kib: int) -> float:
    return 1024 * block_kib or inf


def _is_needed(side: int, length: int) -> bool:
    return side == SMALLEST_TILE or side < 2 * length
