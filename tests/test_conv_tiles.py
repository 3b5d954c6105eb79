"""The plans on offer for a convolution: what is feasible, and that the rest would be in vain."""

import pytest
import torch
from torch.nn import functional as F

from search_spaces import InputError
from search_spaces.conv_plan import ConvPlan
from search_spaces.conv_shape import ConvShape
from search_spaces.conv_tiles import PlanSpace
from trainables.convolution.functional import convolve
from trainables.convolution.layers import LAYERS, paper_layer
from trainables.convolution.slicing import blocks_of, slicing_of

SMALL = ConvShape(2, 3, (14, 11), 5, (3, 5), (2, 1))


def test_points_are_flat_scalars_and_stand_for_plans() -> None:
    for method in ("slices", "triton"):
        space = PlanSpace(SMALL, method)
        points = list(space.points())
        assert 0 < len(points) < space.size
        plans = [space.from_flat(point) for point in points]
        assert len(set(plans)) == len(plans)
        assert [space.to_flat(plan) for plan in plans] == points
        for point in points:
            assert set(point) == set(space.choices())
            assert all(isinstance(value, str | int) for value in point.values())


def test_every_feasible_plan_on_a_cpu_computes_the_same() -> None:
    rng = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 3, 14, 11, generator=rng)
    weight = torch.randn(5, 3, 3, 5, generator=rng) / 7
    expected = F.conv2d(pictures, weight, None, (2, 1))
    space = PlanSpace(SMALL, block_kib=(0, 1, 2, 64))
    for point in space.points():
        found = convolve(pictures, weight, None, SMALL, space.from_flat(point))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_blocks_that_hold_everything_are_offered_once() -> None:
    for name in ("conv1", "conv9", "conv12"):
        shape = paper_layer(name, 2)
        for slices, own in (("rows", shape), ("columns", shape.transposed)):
            space = PlanSpace(shape, layout=("nchw",), slices=(slices,))
            slicing = slicing_of(own.kernel[0], own.stride[0], own.dilation[0])
            single = [
                point["block_kib"]
                for point in space.points()
                if len(list(blocks_of(own, slicing, space.from_flat(point), 4))) == 1
            ]
            assert len(single) == 1


def test_slices_that_share_nothing_are_not_offered() -> None:
    wide = ConvShape(1, 4, (9, 9), 4, (1, 5))
    assert {point["slices"] for point in PlanSpace(wide).points()} == {"columns"}
    with pytest.raises(InputError, match="none of those on offer suits"):
        PlanSpace(ConvShape(1, 4, (9, 9), 4, (1, 1)))
    with pytest.raises(InputError, match="none of those on offer suits"):
        PlanSpace(ConvShape(1, 4, (9, 9), 4, (5, 1)), "triton")


def test_tiles_fit_the_memory_and_the_shape() -> None:
    space = PlanSpace(paper_layer("conv9", 128), "triton", shared_memory=64 * 1024)
    for point in space.points():
        sides = point["tile_filters"] + point["tile_windows"]
        assert sides * point["tile_depth"] * 4 * point["stages"] <= 64 * 1024
        assert point["tile_filters"] <= 64
    half = PlanSpace(paper_layer("conv9", 128), "triton", shared_memory=64 * 1024, element_size=2)
    assert len(list(half.points())) > len(list(space.points()))
    for name in LAYERS:
        assert next(PlanSpace(paper_layer(name, 1), "triton").points())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"method": "torch"}, "nothing to tune"),
        ({"threads": ()}, "threads has no values"),
        ({"layout": ("nchw", "nchw")}, "layout has no values or one of them twice"),
        ({"layout": ("chwn",)}, "chwn"),
    ],
)
def test_a_space_is_checked(arguments: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        PlanSpace(SMALL, **arguments)


def test_the_default_plan_is_among_them() -> None:
    assert PlanSpace(paper_layer("conv1", 16)).from_flat(
        next(PlanSpace(paper_layer("conv1", 16)).points())
    ) == ConvPlan(threads=1)
