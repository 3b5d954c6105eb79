"""How a convolution is computed: the choices that can be tuned, as a value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from search_spaces.content_key import content_key
from search_spaces.conv_shape import ConvShape
from search_spaces.errors import InputError

Method = Literal["slices", "triton", "torch"]
Layout = Literal["nchw", "nhwc"]
Slices = Literal["rows", "columns"]
Precision = Literal["ieee", "tf32"]

SMALLEST_TILE = 16
"""Of a side: tensor cores take no smaller matrices."""


def _check(name: str, value: str, options: Any) -> None:
    if value not in get_args(options):
        raise InputError(f"{name}: {value!r} is none of {', '.join(get_args(options))}")


@dataclass(frozen=True)
class Tiles:
    """What one program of the Triton kernel computes, and with what.

    Args:
        filters: rows of its tile of the output: filters.
        windows: columns of it: places, counted over all pictures.
        depth: products added up at a time.
        warps: of 32 threads each.
        stages: of the software pipeline that loads ahead.
        precision: of float32 products: `ieee`, or `tf32`, rounded to 10 bits. Others ignore it.
    """

    filters: int = 64
    windows: int = 64
    depth: int = 32
    warps: int = 4
    stages: int = 3
    precision: Precision = "ieee"

    def __post_init__(self) -> None:
        for name in ("filters", "windows", "depth"):
            side = getattr(self, name)
            if side < SMALLEST_TILE or side & (side - 1):
                raise InputError(
                    f"tiles: {name} is a power of two from {SMALLEST_TILE} on, not {side}"
                )
        if self.warps < 1 or self.warps & (self.warps - 1) or self.stages < 1:
            raise InputError(
                f"tiles: warps is a power of two and stages at least 1, not {self.warps} and "
                f"{self.stages}"
            )
        _check("precision", self.precision, Precision)


@dataclass(frozen=True)
class ConvPlan:
    """One way of computing a convolution. Plans differ in time and memory, not in the result.

    Args:
        method: `slices`, matrix products that need no compiler; `triton`, one kernel on the
            whole window tensor; `torch`, PyTorch's own convolution.
        layout: of the window tensor, with channels before or behind places.
        slices: what is multiplied at a time and so which overlap of windows is shared: filter
            `columns` share the width and have the height unrolled, as in the paper; `rows` share
            the height. The Triton kernel takes columns.
        block_kib: KiB of windows and their sums at a time, by `slices`: what fits into a cache. At
            least a row of one picture; 0: all at once.
        threads: of the CPU while it computes; None: as many as torch has.
        tiles: of the Triton kernel.
    """

    method: Method = "slices"
    layout: Layout = "nchw"
    slices: Slices = "rows"
    block_kib: int = 2048
    threads: int | None = None
    tiles: Tiles = Tiles()

    def __post_init__(self) -> None:
        _check("method", self.method, Method)
        _check("layout", self.layout, Layout)
        _check("slices", self.slices, Slices)
        if self.block_kib < 0 or (self.threads is not None and self.threads < 1):
            raise InputError(
                f"plan: block_kib is at least 0 and threads at least 1, not {self.block_kib} and "
                f"{self.threads}"
            )
        if self.method == "triton" and self.slices != "columns":
            raise InputError("plan: the Triton kernel takes slices=columns")

    @property
    def key(self) -> str:
        """Content hash."""
        return content_key(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(**{**values, "tiles": Tiles(**values["tiles"])})


PYTORCH = ConvPlan(method="torch")


def shares_windows(shape: ConvShape, slices: Slices) -> bool:
    """Whether neighbouring windows overlap along the axis that is shared: k > s, else all is lost.

    Where they don't, the window tensor is as large as im2col's.
    """
    axis = 0 if slices == "rows" else 1
    return shape.kernel[axis] > shape.stride[axis]


def default_plan(shape: ConvShape) -> ConvPlan:
    """A plan for a shape that nobody has tuned, for a CPU.

    PyTorch's own where windows share nothing, and where each channel has filters of its own: then
    there is no matrix to multiply by.
    """
    depthwise = shape.groups > 1 and shape.groups == shape.channels
    if not depthwise:
        for slices in get_args(Slices):
            if shares_windows(shape, slices):
                return ConvPlan(slices=slices)
    return PYTORCH
