"""What is convolved with what: the sizes of a convolution."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from search_spaces.content_key import content_key
from search_spaces.errors import InputError

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvShape:
    """The sizes of one convolution; pairs are height and width.

    Args:
        batch: pictures.
        channels: of a picture.
        size: of a picture, in pixels.
        filters: output channels.
        kernel: of a filter.
        stride: between windows.
        padding: rows and columns of zeros on each side.
        dilation: between a window's rows and columns.
        groups: channels and filters are split into.
    """

    batch: int
    channels: int
    size: Pair
    filters: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        counts = (self.channels, self.filters, *self.kernel, *self.stride, *self.dilation)
        if min(*counts, self.groups) < 1 or self.batch < 0 or min(self.padding) < 0:
            raise InputError(
                f"convolution: {self} has a count below 1, or a batch or padding below 0"
            )
        if self.channels % self.groups or self.filters % self.groups:
            raise InputError(
                f"convolution: {self.channels} channels and {self.filters} filters can't both be "
                f"split into {self.groups} groups"
            )
        if min(self.output) < 1:
            padded = tuple(i + 2 * p for i, p in zip(self.size, self.padding, strict=True))
            raise InputError(
                f"convolution: a window of {self.extent[0]}×{self.extent[1]} does not fit into "
                f"{padded[0]}×{padded[1]} pixels, padding included"
            )

    @property
    def key(self) -> str:
        """Content hash."""
        return content_key(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with pairs as lists."""
        values = asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        plain: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in values.items()
        }
        return cls(**plain)

    @property
    def extent(self) -> Pair:
        """What a window reaches over, in pixels."""
        return (
            (self.kernel[0] - 1) * self.dilation[0] + 1,
            (self.kernel[1] - 1) * self.dilation[1] + 1,
        )

    @property
    def output(self) -> Pair:
        """The output's size: ⌊(H + 2p − extent) / s⌋ + 1."""
        height, width = (
            (i + 2 * p - e) // s + 1
            for i, p, e, s in zip(self.size, self.padding, self.extent, self.stride, strict=True)
        )
        return height, width

    @property
    def macs(self) -> int:
        """Products that are added up."""
        window = self.channels // self.groups * self.kernel[0] * self.kernel[1]
        return self.batch * self.filters * self.output[0] * self.output[1] * window

    @property
    def transposed(self) -> Self:
        """Of the same convolution with height and width exchanged."""
        pairs = ("size", "kernel", "stride", "padding", "dilation")
        return replace(self, **{name: getattr(self, name)[::-1] for name in pairs})
