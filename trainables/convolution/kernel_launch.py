"""Running the Triton kernel; the transform runs on the same device before it."""

import os
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from search_spaces.conv_plan import ConvPlan
from search_spaces.conv_shape import ConvShape
from search_spaces.errors import InputError
from trainables.convolution.slices import empty_output
from trainables.convolution.transform import im2win, im2win_filters

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def triton_missing(device: torch.device) -> str | None:
    """Why the kernel can't run on a device; None where it can."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "Triton is not installed: pip install 'supersam-automl[triton]'"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "Triton needs a GPU; on a CPU it is interpreted, slowly, with TRITON_INTERPRET=1"
    return None


def conv2d_by_triton(
    pictures: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape, plan: ConvPlan
) -> Tensor:
    """The convolution [N, K, Ho, Wo], in the memory format of the pictures; without gradients.

    Args:
        pictures: [N, C, H, W], of one of `DTYPES`.
        weight: [K, C / groups, kh, kw].
        bias: [K].
        shape: theirs.
        plan: its layout and tiles.

    Raises:
        InputError: Triton is not there or can't run here, or does not take the type.
    """
    if reason := triton_missing(pictures.device):
        raise InputError(f"convolution: {reason}")
    if pictures.dtype not in DTYPES:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise InputError(f"convolution: the Triton kernel takes {names}, not {pictures.dtype}")
    windows = im2win(pictures, shape, plan.layout)
    filters = im2win_filters(weight, shape, plan.layout)
    return multiply_windows(windows, filters, bias, empty_output(pictures, shape), shape, plan)


def multiply_windows(
    windows: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    output: Tensor,
    shape: ConvShape,
    plan: ConvPlan,
) -> Tensor:
    """The kernel alone, into `output`.

    Args:
        windows: what `im2win` gives, in the plan's layout.
        filters: what `im2win_filters` gives, in the plan's layout.
        bias: [K].
        output: [N, K, Ho, Wo], dense.
        shape: of the convolution.
        plan: its layout and tiles.
    """
    from trainables.convolution import kernel

    if not output.numel():
        return output
    tiles, (height, width) = plan.tiles, shape.output
    of_group, count = shape.filters // shape.groups, shape.batch * height * width
    grid = (-(-of_group // tiles.filters), -(-count // tiles.windows), shape.groups)
    launch: Any = kernel.im2win_kernel
    with torch.cuda.device(output.device) if output.is_cuda else nullcontext():
        launch[grid](
            windows,
            filters,
            filters if bias is None else bias.contiguous(),
            output,
            of_group,
            count,
            filters.shape[2],
            *shape.kernel,
            shape.channels // shape.groups,
            height,
            width,
            shape.stride[1],
            shape.dilation[1],
            *_window_strides(windows, shape, plan),
            *output.stride(),
            CHANNELS_LAST=plan.layout == "nhwc",
            DILATED=shape.dilation[1] > 1,
            HAS_BIAS=bias is not None,
            # Triton's interpreter multiplies bfloat16 as if its bits were whole numbers.
            WIDEN=output.dtype == torch.bfloat16 and not output.is_cuda,
            PRECISION=tiles.precision,
            FILTERS=tiles.filters,
            WINDOWS=tiles.windows,
            DEPTH=tiles.depth,
            num_warps=tiles.warps,
            num_stages=tiles.stages,
        )
    return output


def _window_strides(windows: Tensor, shape: ConvShape, plan: ConvPlan) -> tuple[int, ...]:
    """Between groups, pictures, channels, rows, columns, and the numbers of a column."""
    kernel = shape.kernel[0]
    if plan.layout == "nchw":
        group, picture, channel, row, number = windows.stride()
    else:
        group, picture, row, number, channel = windows.stride()
    return group, picture, channel, row, kernel * number, number
