"""Models whose convolutions are exchanged give what they gave before, and share their weights."""

import pytest
import torch
from small_networks import network_of, pictures
from tiny import random_tensor
from torch import nn

from search_spaces import InputError
from search_spaces.conv_plan import ConvPlan
from trainables.convolution.modules import Im2winConv2d, swap_convolutions
from trainables.sam.segment_anything_import import Sam


def ours(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, Im2winConv2d)]


@pytest.mark.parametrize("name", ["resnet20", "basic", "bottleneck", "vgg_bn"])
def test_a_pruned_networks_kind_of_network_computes_the_same(name: str) -> None:
    network, batch = network_of(name), pictures(2)
    expected = network(batch)
    swapped = swap_convolutions(network)
    wide = [
        n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1
    ]
    assert ours(swapped) == wide
    assert not ours(network)
    torch.testing.assert_close(swapped(batch), expected, rtol=1e-5, atol=1e-5)


def test_sams_neck_computes_the_same(sam: Sam) -> None:
    tokens = random_tensor(2, 32, 4, 4)
    neck = swap_convolutions(sam.image_encoder.neck)
    assert ours(neck) == ["2"]  # 3×3; the other one is 1×1
    torch.testing.assert_close(neck(tokens), sam.image_encoder.neck(tokens), rtol=1e-5, atol=1e-5)


def test_a_whole_sam_can_be_swapped(sam: Sam) -> None:
    images = random_tensor(2, 3, 64, 64)
    swapped = swap_convolutions(sam)
    assert ours(swapped) == ["image_encoder.neck.2"]
    torch.testing.assert_close(
        swapped.image_encoder(images), sam.image_encoder(images), rtol=1e-5, atol=1e-5
    )


def test_weights_are_shared_and_trained_in_both() -> None:
    network, batch = network_of("basic"), pictures(2)
    swapped = swap_convolutions(network)
    theirs, own = network.state_dict(keep_vars=True), swapped.state_dict(keep_vars=True)
    assert list(theirs) == list(own)
    assert all(theirs[name] is own[name] for name in theirs)
    expected = torch.autograd.grad(network(batch).square().sum(), list(network.parameters()))
    found = torch.autograd.grad(swapped(batch).square().sum(), list(swapped.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_a_plan_for_all_or_for_each() -> None:
    network, batch = network_of("basic"), pictures(2)
    plan = ConvPlan(layout="nhwc", slices="columns", block_kib=8)
    swapped = swap_convolutions(network, plan)
    assert {swapped.get_submodule(name).plan for name in ours(swapped)} == {plan}
    torch.testing.assert_close(swapped(batch), network(batch), rtol=1e-5, atol=1e-5)
    first = swap_convolutions(network, {"conv1": plan}, takes=lambda name, _: name == "conv1")
    assert ours(first) == ["conv1"]
    with pytest.raises(InputError, match="'conv9' is no convolution"):
        swap_convolutions(network, {"conv9": plan})


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_a_convolution_alone_with_any_padding(mode: str) -> None:
    conv = nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode=mode)
    swapped = swap_convolutions(conv)
    assert isinstance(swapped, Im2winConv2d)
    assert swapped.weight is conv.weight
    batch = random_tensor(2, 4, 7, 8)
    torch.testing.assert_close(swapped(batch), conv(batch), rtol=1e-5, atol=1e-5)


def test_derived_classes_and_kernels_that_share_nothing_stay() -> None:
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(Own(4, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 2, stride=2))
    assert not ours(swap_convolutions(model))
