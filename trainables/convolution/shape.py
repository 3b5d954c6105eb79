"""What is convolved with what: sizes alone, checked."""

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

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


def shape_of(
    pictures: Tensor,
    weight: Tensor,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> ConvShape:
    """The shape of a convolution of tensors.

    Args:
        pictures: [N, C, H, W].
        weight: [K, C / groups, kh, kw].
        stride: as `torch.nn.functional.conv2d` takes it; the rest, too.
        padding: a number, a pair, `valid` or `same`; `same` as far as it is the same on both sides.
        dilation: a number or a pair.
        groups: see `ConvShape`.

    Raises:
        InputError: the tensors do not fit to each other, or to the rest.
    """
    if pictures.ndim != 4 or weight.ndim != 4:
        raise InputError(
            f"convolution: pictures are [N, C, H, W] or [C, H, W] and weights [K, C, kh, kw], not "
            f"{list(pictures.shape)} and {list(weight.shape)}"
        )
    count, channels, height, width = pictures.shape
    filters, of_group, kh, kw = weight.shape
    if groups < 1 or channels != of_group * groups:
        raise InputError(
            f"convolution: pictures have {channels} channels, and weights are for "
            f"{of_group} × {groups} groups"
        )
    kernel, dilations = (kh, kw), _pair("dilation", dilation)
    strides = _pair("stride", stride)
    if isinstance(padding, str):
        padding = _named_padding(padding, kernel, strides, dilations)
    paddings = _pair("padding", padding)
    return ConvShape(
        count, channels, (height, width), filters, kernel, strides, paddings, dilations, groups
    )


def _named_padding(name: str, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    if name == "valid":
        return (0, 0)
    if name != "same":
        raise InputError(f"convolution: padding {name!r} is neither 'valid' nor 'same'")
    if stride != (1, 1):
        raise InputError("convolution: padding 'same' needs a stride of 1")
    total = tuple((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
    if total[0] % 2 or total[1] % 2:
        raise InputError(
            f"convolution: padding 'same' around a kernel of {kernel[0]}×{kernel[1]} differs on "
            "the two sides; pad the pictures first"
        )
    return (total[0] // 2, total[1] // 2)


def _pair(name: str, given: int | tuple[int, ...]) -> Pair:
    values = (given, given) if isinstance(given, int) else tuple(given)
    if len(values) == 1:
        values *= 2
    if len(values) != 2:
        raise InputError(f"convolution: {name} is a number or a pair, not {given}")
    return (int(values[0]), int(values[1]))
