"""The Triton kernel, run on the CPU by Triton's interpreter."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from search_spaces import InputError
from search_spaces.conv_plan import ConvPlan, Tiles
from search_spaces.conv_shape import ConvShape
from trainables.convolution.functional import conv2d, convolve
from trainables.convolution.kernel_launch import triton_missing

SMALL = Tiles(filters=16, windows=32, depth=16)
SHAPES = {
    "whole tiles": ConvShape(2, 16, (10, 10), 32, (3, 3)),
    "nothing a multiple of a tile": ConvShape(2, 3, (9, 11), 17, (3, 5), (2, 1), (1, 2), (1, 2)),
    "groups": ConvShape(1, 6, (8, 7), 10, (3, 3), (1, 2), (1, 1), (2, 1), groups=2),
    "one output row": ConvShape(3, 5, (5, 9), 4, (5, 3)),
    "one window": ConvShape(1, 1, (2, 2), 1, (2, 2)),
    "strided": ConvShape(1, 3, (23, 23), 20, (11, 11), (4, 4)),
}
WITHIN = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton asks for it when the kernel is defined, which is at the kernel's first launch."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton is not installed (the extra `triton`)")


def operands(shape: ConvShape, dtype: torch.dtype) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    window = (shape.channels // shape.groups, *shape.kernel)
    pictures = torch.randn(shape.batch, shape.channels, *shape.size, generator=rng)
    weight = torch.randn(shape.filters, *window, generator=rng)
    weight /= weight[0].numel() ** 0.5
    return [t.to(dtype) for t in (pictures, weight, torch.randn(shape.filters, generator=rng))]


def expected(tensors: list[torch.Tensor], shape: ConvShape) -> torch.Tensor:
    """Of the rounded operands, in double precision."""
    return F.conv2d(
        *(t.double() for t in tensors), shape.stride, shape.padding, shape.dilation, shape.groups
    )


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_kernel_equals_conv2d(name: str, layout: str, interpreter: None) -> None:
    shape = SHAPES[name]
    for dtype, within in WITHIN.items():
        tensors = operands(shape, dtype)
        plan = ConvPlan("triton", layout, "columns", tiles=SMALL)
        found = convolve(*tensors, shape, plan)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected(tensors, shape), rtol=0, atol=within)


def test_nothing_is_read_or_written_beyond_the_borders(interpreter: None) -> None:
    """Tensors lie amid NaNs: one that was read shows in the output, one written over is missed."""
    shape = SHAPES["nothing a multiple of a tile"]
    tensors = operands(shape, torch.float32)
    from trainables.convolution.kernel_launch import multiply_windows
    from trainables.convolution.transform import im2win, im2win_filters

    for layout in ("nchw", "nhwc"):
        surrounded = []
        empty = torch.zeros(shape.batch, shape.filters, *shape.output)
        windows, filters = (
            im2win(tensors[0], shape, layout),
            im2win_filters(tensors[1], shape, layout),
        )
        for tensor in (windows, filters, tensors[2], empty):
            amid = torch.full((tensor.numel() + 8192,), torch.nan)
            inner = amid[4096 : 4096 + tensor.numel()].view(tensor.shape)
            inner.copy_(tensor)
            surrounded.append((amid, inner))
        plan = ConvPlan("triton", layout, "columns", tiles=SMALL)
        output = multiply_windows(*(inner for _, inner in surrounded), shape, plan)
        torch.testing.assert_close(output.double(), expected(tensors, shape), rtol=0, atol=1e-5)
        for amid, inner in surrounded:
            assert amid.isnan().sum() == 8192
            assert not inner.isnan().any()


def test_channels_last_and_no_bias(interpreter: None) -> None:
    shape = SHAPES["groups"]
    pictures, weight, _ = operands(shape, torch.float32)
    last = pictures.to(memory_format=torch.channels_last)
    for tiles, layout in product([SMALL, Tiles()], ("nchw", "nhwc")):
        plan = ConvPlan("triton", layout, "columns", tiles=tiles)
        found = convolve(last, weight, None, shape, plan)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(
            found.double(), expected([pictures, weight, torch.zeros(10)], shape), rtol=0, atol=1e-5
        )


def test_gradients_reach_pictures_and_weights(interpreter: None) -> None:
    shape = ConvShape(2, 3, (6, 6), 4, (3, 3))
    plan = ConvPlan("triton", "nhwc", "columns", tiles=SMALL)
    tensors = [t.requires_grad_() for t in operands(shape, torch.float32)]
    found = torch.autograd.grad(conv2d(*tensors, plan=plan).square().sum(), tensors)
    wanted = torch.autograd.grad(F.conv2d(*tensors).square().sum(), tensors)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from trainables.convolution.kernel import im2win_kernel as kernel

for dtype, precision, last, capability in (("fp32", "tf32", True, 90), ("bf16", "ieee", False, 80)):
    options = {
        "CHANNELS_LAST": last, "DILATED": False, "HAS_BIAS": True, "WIDEN": False,
        "PRECISION": precision, "FILTERS": 64, "WINDOWS": 64, "DEPTH": 32,
    }
    pointers = ("windows", "filters", "bias", "output")
    types = {
        name: f"*{dtype}" if name in pointers else "constexpr" if name in options else "i32"
        for name in kernel.arg_names
    }
    source = ASTSource(kernel, types, options)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert compiled.asm["cubin"]
    print("wgmma" in compiled.asm["ptx"], "mma.sync" in compiled.asm["ptx"])
"""


def test_it_compiles_to_tensor_cores_products(tmp_path: Path) -> None:
    """Triton needs no GPU for that: TF32 for Hopper, bfloat16 for Ampere."""
    pytest.importorskip("triton", reason="Triton is not installed (the extra `triton`)")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True False", "False True"]


def test_what_the_kernel_does_not_take_is_said(interpreter: None) -> None:
    plan = ConvPlan("triton", slices="columns")
    doubles = [t.double() for t in operands(ConvShape(1, 2, (5, 5), 2, (3, 3)), torch.float32)]
    with pytest.raises(InputError, match="float32, float16, bfloat16, not"):
        conv2d(*doubles, plan=plan)


def test_without_a_gpu_or_triton_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = triton_missing(torch.device("cpu"))
    assert reason is not None
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "not installed" in (triton_missing(torch.device("cpu")) or "")
    plan = ConvPlan("triton", slices="columns")
    with pytest.raises(InputError, match="not installed"):
        conv2d(torch.zeros(1, 2, 5, 5), torch.zeros(2, 2, 3, 3), plan=plan)
