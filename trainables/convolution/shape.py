"""The shape of a convolution of tensors, checked."""

from torch import Tensor

from search_spaces.conv_shape import ConvShape, Pair
from search_spaces.errors import InputError


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
