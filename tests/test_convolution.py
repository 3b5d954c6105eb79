"""Im2win equals PyTorch's convolution, whatever the shape and the plan, and so do its gradients."""

from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from search_spaces import InputError
from search_spaces.conv_plan import PYTORCH, ConvPlan, Tiles, default_plan
from search_spaces.conv_shape import ConvShape
from trainables.convolution.functional import conv2d, convolve, plan_for
from trainables.convolution.layers import LAYERS, paper_layer
from trainables.convolution.slicing import slicing_of
from trainables.convolution.transform import im2win, im2win_filters

PLANS = [
    ConvPlan(layout=layout, slices=slices)
    for layout, slices in product(("nchw", "nhwc"), ("rows", "columns"))
]
WITHIN = 1e-5


def by_choices(plan: ConvPlan) -> str:
    return f"{plan.layout}-{plan.slices}"


def operands(
    shape: ConvShape, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, weights and bias, such that outputs have variances near 1."""
    rng = torch.Generator().manual_seed(seed)
    window = (shape.channels // shape.groups, *shape.kernel)
    pictures = torch.randn(
        shape.batch, shape.channels, *shape.size, generator=rng, dtype=torch.float64
    )
    weight = torch.randn(shape.filters, *window, generator=rng, dtype=torch.float64)
    weight /= weight[0].numel() ** 0.5
    bias = torch.randn(shape.filters, generator=rng, dtype=torch.float64)
    return pictures.to(dtype), weight.to(dtype), bias.to(dtype)


def reference(pictures: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    return F.conv2d(
        pictures, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups
    )


@pytest.mark.parametrize("plan", PLANS, ids=by_choices)
@pytest.mark.parametrize("name", LAYERS)
def test_the_papers_layers_equal_conv2d(name: str, plan: ConvPlan) -> None:
    shape = paper_layer(name, batch=2 if name != "conv4" else 1)
    pictures, weight, _ = operands(shape)
    found = convolve(pictures, weight, None, shape, plan)
    torch.testing.assert_close(found, reference(pictures, weight, None, shape), rtol=0, atol=WITHIN)


@st.composite
def shapes(draw: st.DrawFn) -> ConvShape:
    """Of every kind: one output row, windows that padding fills alone, channels of any number."""
    groups = draw(st.integers(1, 3))
    pair = st.tuples(*2 * [st.integers(1, 3)])
    kernel, stride, dilation = draw(st.tuples(*2 * [st.integers(1, 6)])), draw(pair), draw(pair)
    padding = draw(st.tuples(*2 * [st.integers(0, 3)]))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    least = [max(1, e - 2 * p) for e, p in zip(extents, padding, strict=True)]
    more = draw(st.tuples(*2 * [st.integers(0, 9)]))
    return ConvShape(
        draw(st.integers(1, 4)),
        groups * draw(st.integers(1, 9)),
        (least[0] + more[0], least[1] + more[1]),
        groups * draw(st.integers(1, 9)),
        kernel,
        stride,
        padding,
        dilation,
        groups,
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    shape=shapes(),
    layout=st.sampled_from(["nchw", "nhwc"]),
    slices=st.sampled_from(["rows", "columns"]),
    block_kib=st.sampled_from([0, 1, 2, 4, 16, 1024]),
    with_bias=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_random_shapes_equal_conv2d(
    shape, layout, slices, block_kib, with_bias, channels_last, seed
) -> None:
    pictures, weight, bias = operands(shape, seed)
    if channels_last:
        pictures = pictures.to(memory_format=torch.channels_last)
    plan = ConvPlan(layout=layout, slices=slices, block_kib=block_kib)
    given_bias = bias if with_bias else None
    found = convolve(pictures, weight, given_bias, shape, plan)
    # PyTorch's own in double precision: in single, with channels last, it crashes on some shapes.
    doubled = [None if t is None else t.double() for t in (pictures, weight, given_bias)]
    expected = reference(doubled[0].contiguous(), *doubled[1:], shape)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=WITHIN)
    assert found.is_contiguous(
        memory_format=torch.channels_last
        if channels_last and not pictures.is_contiguous()
        else torch.contiguous_format
    )


def test_the_window_tensor_is_the_papers() -> None:
    shape = ConvShape(2, 4, (9, 8), 6, (3, 2), (2, 1), (1, 0), groups=2)
    pictures, weight, _ = operands(shape)
    padded = F.pad(pictures, (0, 0, 1, 1))
    windows = im2win(pictures, shape).unflatten(4, (8, 3))
    last = im2win(pictures, shape, "nhwc").unflatten(3, (8, 3))
    filters = im2win_filters(weight, shape)
    for g, c, ho, w, u in product(range(2), range(2), range(shape.output[0]), range(8), range(3)):
        expected = padded[:, 2 * g + c, 2 * ho + u, w]
        assert torch.equal(windows[g, :, c, ho, w, u], expected)
        assert torch.equal(last[g, :, ho, w, u, c], expected)
    for g, k, c, u, v in product(range(2), range(3), range(2), range(3), range(2)):
        assert filters[g, k, c * 6 + v * 3 + u] == weight[3 * g + k, c, u, v]


def test_windows_are_smaller_than_im2cols() -> None:
    """By allocation; the figures are those of the sheets of both papers."""
    expected = [0.375, 0.375, 0.292, 0.294, 0.240, 0.400, 0.336, 0.339, 0.346, 0.359, 0.389, 0.467]
    ratios = []
    for name in LAYERS:
        shape = paper_layer(name, batch=1)
        pictures = torch.zeros(1, shape.channels, *shape.size, dtype=torch.float16)
        columns = F.unfold(pictures, shape.kernel, stride=shape.stride)
        sizes = {
            im2win(pictures, shape, layout).untyped_storage().nbytes()
            for layout in ("nchw", "nhwc")
        }
        ratios.append(sizes.pop() / columns.untyped_storage().nbytes())
        assert not sizes  # both layouts have the same
    assert ratios == pytest.approx(expected, abs=6e-4)
    assert sum(ratios) / len(ratios) == pytest.approx(0.351, abs=5e-4)


@pytest.mark.parametrize("plan", PLANS[::3], ids=by_choices)
def test_gradients(plan: ConvPlan) -> None:
    shape = ConvShape(2, 4, (5, 3), 2, (3, 3), (2, 1), (1, 2), (1, 2), groups=2)
    tensors = [t.requires_grad_() for t in operands(shape, dtype=torch.float64)]

    def run(*tensors: Tensor) -> Tensor:
        return conv2d(*tensors, (2, 1), (1, 2), (1, 2), 2, plan=plan)

    assert torch.autograd.gradcheck(run, tensors)
    assert torch.autograd.gradgradcheck(run, tensors)
    frozen = [t.detach() for t in tensors[1:]]
    (only,) = torch.autograd.grad(run(tensors[0], *frozen).sum(), tensors[0])
    (expected,) = torch.autograd.grad(reference(tensors[0], *frozen, shape).sum(), tensors[0])
    torch.testing.assert_close(only, expected)


def test_nothing_but_pictures_and_weights_is_kept_for_the_backward_pass() -> None:
    shape = ConvShape(2, 4, (12, 12), 6, (5, 5))
    tensors = [t.requires_grad_() for t in operands(shape)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        conv2d(*tensors)
    pointers = {tensor.data_ptr() for tensor in kept}
    assert pointers == {tensors[0].data_ptr(), tensors[1].data_ptr()}


def test_it_drops_in_for_conv2d() -> None:
    shape = ConvShape(2, 4, (9, 10), 6, (3, 5))
    pictures, weight, bias = operands(shape)
    for more in (
        {},
        {"padding": "same"},
        {"padding": "valid", "dilation": 2},
        {"stride": (2,), "padding": (1, 2)},
    ):
        torch.testing.assert_close(
            conv2d(pictures, weight, bias, **more), F.conv2d(pictures, weight, bias, **more)
        )
    one = pictures[0]
    torch.testing.assert_close(conv2d(one, weight, bias), F.conv2d(one, weight, bias))
    assert conv2d(pictures[:0], weight, bias).shape == (0, 6, 7, 6)
    assert conv2d(pictures.to("meta"), weight.to("meta")).shape == (2, 6, 7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = conv2d(pictures, weight, bias), F.conv2d(pictures, weight, bias)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_a_plan_has_its_number_of_threads_while_it_computes() -> None:
    shape = ConvShape(1, 2, (5, 5), 2, (3, 3))
    before = torch.get_num_threads()
    pictures, weight, bias = operands(shape)
    seen = []
    weight.requires_grad_()
    plan = ConvPlan(threads=before + 1)

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(torch.get_num_threads())
            return super().__torch_function__(func, types, args, kwargs or {})

    convolve(pictures.as_subclass(Watched), weight.detach(), bias, shape, plan)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_where_windows_share_nothing_pytorch_computes() -> None:
    wide = ConvShape(1, 4, (9, 9), 4, (1, 5), (1, 2))
    assert plan_for(wide).slices == "columns"
    assert plan_for(wide, ConvPlan(slices="rows")) == PYTORCH
    assert default_plan(ConvShape(1, 4, (9, 9), 4, (1, 1))) == PYTORCH
    assert default_plan(ConvShape(1, 4, (9, 9), 4, (3, 3), (3, 3))) == PYTORCH
    assert default_plan(ConvShape(1, 4, (9, 9), 4, (3, 3), groups=4)) == PYTORCH
    assert default_plan(ConvShape(1, 4, (9, 9), 4, (3, 3))).method == "slices"


def test_slices_of_a_stride_are_few_products() -> None:
    """⌈k / s⌉ without dilation: rows that begin at the same place are multiplied together."""
    for kernel, stride in product(range(1, 12), range(1, 6)):
        assert len(slicing_of(kernel, stride, 1).products) == -(-kernel // stride)
    covered = [(p.first, p.last) for p in slicing_of(7, 3, 2).products]
    assert covered[0][0] == 0
    assert covered[-1][1] == 7
    assert all(one[1] == other[0] for one, other in pairwise(covered))


PICTURES, WEIGHT = torch.zeros(1, 4, 8, 8), torch.zeros(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.zeros(8, 8), WEIGHT), "pictures are"),
        ((PICTURES, torch.zeros(6, 3, 3, 3)), "4 channels"),
        ((PICTURES, WEIGHT, torch.zeros(5)), "bias for 6 filters"),
        ((PICTURES, WEIGHT.double()), "one floating point type"),
        ((PICTURES.int(), WEIGHT.int()), "one floating point type"),
        ((PICTURES, WEIGHT.to("meta")), "one device"),
        ((PICTURES, WEIGHT, None, 0), "below 1"),
        ((PICTURES, WEIGHT, None, (1, 1, 1)), "stride is a number or a pair"),
        ((PICTURES, WEIGHT, None, 1, -1), "below 0"),
        ((PICTURES, WEIGHT, None, 1, 0, 4), "does not fit into 8×8"),
        ((PICTURES, WEIGHT, None, 1, "full"), "neither 'valid' nor 'same'"),
        ((PICTURES, WEIGHT, None, 2, "same"), "stride of 1"),
        ((PICTURES, torch.zeros(6, 4, 2, 2), None, 1, "same"), "two sides"),
        ((PICTURES, torch.zeros(5, 2, 3, 3), None, 1, 0, 1, 2), "5 filters"),
    ],
)
def test_what_does_not_fit_is_said(arguments: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        conv2d(*arguments)


def test_plans_are_checked_and_written() -> None:
    plan = ConvPlan("triton", "nhwc", "columns", 64, 2, Tiles(128, 32, 16, 8, 2, "tf32"))
    assert ConvPlan.from_dict(plan.to_dict()) == plan
    assert len({plan, ConvPlan(), ConvPlan()}) == 2
    for wrong in (
        lambda: ConvPlan(layout="chwn"),
        lambda: ConvPlan(block_kib=-1),
        lambda: ConvPlan(threads=0),
        lambda: ConvPlan(method="triton"),
        lambda: Tiles(filters=48),
        lambda: Tiles(depth=8),
        lambda: Tiles(warps=3),
        lambda: Tiles(precision="fp32"),
    ):
        with pytest.raises(InputError):
            wrong()
