"""`conv2d`: what `torch.nn.functional.conv2d` computes, with the memory of shared windows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces.conv_plan import PYTORCH, ConvPlan, default_plan, shares_windows
from search_spaces.conv_shape import ConvShape
from search_spaces.errors import InputError
from trainables.convolution.shape import shape_of
from trainables.convolution.slices import conv2d_by_slices
from trainables.convolution.tuned import TunedTable


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    plan: ConvPlan | TunedTable | None = None,
) -> Tensor:
    """A drop-in for `torch.nn.functional.conv2d`, with gradients of any order.

    Equal to it but for the order in which products are added up. Under autocast it computes in
    autocast's type. Gradients are PyTorch's own. Where windows share nothing along the axis that
    the plan shares, PyTorch's convolution runs. On a CPU, 16-bit sums are rounded after each slice.

    Args:
        input: [N, C, H, W] or [C, H, W].
        weight: [K, C / groups, kh, kw].
        bias: [K].
        stride: a number or a pair, as are `padding` and `dilation`.
        padding: or `valid` or `same`.
        dilation: between a window's rows and columns.
        groups: channels and filters are split into.
        plan: how it is computed, or a table that has a plan for the shape; None: `default_plan`.

    Returns:
        [N, K, Ho, Wo] or [K, Ho, Wo], channels last where the input is.

    Raises:
        InputError: the tensors do not fit together, or what the plan needs is missing.
    """
    if input.ndim == 3:
        return conv2d(
            input[None], weight, bias, stride, padding, dilation, groups, plan=plan
        ).squeeze(0)
    shape = shape_of(input, weight, stride, padding, dilation, groups)
    if input.is_meta:
        return _torch_conv2d(input, weight, bias, shape)
    device = input.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        input, weight = input.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    _check_tensors(input, weight, bias)
    if isinstance(plan, TunedTable):
        plan = plan.plan_for(shape, input.device, input.dtype)
    chosen = plan_for(shape, plan)
    with torch.autocast(device, enabled=False):
        if chosen.method == "torch":
            return _torch_conv2d(input, weight, bias, shape)
        output: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            input, weight, bias, shape, chosen
        )
        return output


def plan_for(shape: ConvShape, plan: ConvPlan | None = None) -> ConvPlan:
    """The plan that `conv2d` follows: PyTorch's own where the method can't win."""
    if plan is None:
        return default_plan(shape)
    return plan if shares_windows(shape, plan.slices) else PYTORCH


def convolve(
    pictures: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape, plan: ConvPlan
) -> Tensor:
    """The convolution exactly as the plan says, whatever it gains; without gradients."""
    with torch.no_grad(), _threads(plan.threads):
        if plan.method == "triton":
            from trainables.convolution.kernel_launch import conv2d_by_triton

            return conv2d_by_triton(pictures, weight, bias, shape, plan)
        if plan.method == "slices":
            return conv2d_by_slices(pictures, weight, bias, shape, plan)
        return _torch_conv2d(pictures, weight, bias, shape)


class _Convolution(torch.autograd.Function):
    """Keeps the pictures and the weights for the backward pass, never the windows."""

    @staticmethod
    def forward(
        pictures: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape, plan: ConvPlan
    ) -> Tensor:
        return convolve(pictures, weight, bias, shape, plan)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pictures, weight, bias, shape, _ = inputs
        ctx.save_for_backward(pictures, weight)
        ctx.shape, ctx.has_bias = shape, bias is not None

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pictures, weight = ctx.saved_tensors
        shape: ConvShape = ctx.shape
        needed = [*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2]]
        found = torch.ops.aten.convolution_backward(
            gradient,
            pictures,
            weight,
            [shape.filters],
            list(shape.stride),
            list(shape.padding),
            list(shape.dilation),
            False,
            [0, 0],
            shape.groups,
            needed,
        )
        return (*found, None, None)


def _torch_conv2d(
    pictures: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape
) -> Tensor:
    return F.conv2d(
        pictures, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups
    )


def _check_tensors(pictures: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    tensors = [pictures, weight] if bias is None else [pictures, weight, bias]
    if not pictures.is_floating_point() or len({t.dtype for t in tensors}) > 1:
        raise InputError(
            "convolution: pictures, weights and bias have one floating point type, not "
            f"{', '.join(str(t.dtype).removeprefix('torch.') for t in tensors)}"
        )
    if len({t.device for t in tensors}) > 1:
        raise InputError(
            "convolution: pictures, weights and bias are on one device, not "
            f"{', '.join(str(t.device) for t in tensors)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(
            f"convolution: a bias for {len(weight)} filters is [{len(weight)}], not "
            f"{list(bias.shape)}"
        )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Another number of CPU threads, put back afterwards."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
