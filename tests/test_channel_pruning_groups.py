import copy

import pytest
import torch
from small_networks import SMALL, WHOLE, masks_of, network_of, pictures, random_kept
from torch import nn
from torch.nn import functional as F

from search_spaces.errors import InputError
from trainables.channel_pruning.costs import count_macs, count_params
from trainables.channel_pruning.dependencies import prunable_groups
from trainables.channel_pruning.groups import all_kept, check_kept
from trainables.channel_pruning.masked import MaskedNetwork
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.standalone import load_slimmed, save_slimmed

SIZE = 32


@pytest.mark.parametrize("name", [*SMALL, *WHOLE])
@torch.no_grad()
def test_the_slimmed_network_equals_the_masked_one(name):
    prunable = Prunable.of(network_of(name), SIZE)
    kept = random_kept(prunable.groups, seed=1)
    slim = prunable.slimmed(kept)
    given = pictures(2, SIZE)
    expected = slim(given)
    assert expected.std() > 0
    for masking in ("both", "inputs"):
        masked = MaskedNetwork(prunable.network, prunable.groups, masking)
        found = masked(given, masks_of(prunable.groups, kept))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert count_macs(slim, SIZE) == prunable.macs(kept)
    assert count_params(slim) < count_params(prunable.network)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_one_channel_a_group_still_runs(name):
    prunable = Prunable.of(network_of(name), SIZE)
    kept = {group.name: (group.channels - 1,) for group in prunable.groups}
    slim = prunable.slimmed(kept)
    masked = MaskedNetwork(prunable.network, prunable.groups)
    found = masked(pictures(), masks_of(prunable.groups, kept))
    torch.testing.assert_close(found, slim(pictures()), atol=1e-5, rtol=1e-5)
    assert count_macs(slim, SIZE) == prunable.macs(kept)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_slimmed_and_masked_are_equal_in_training_too(name):
    """With the batch's own statistics."""
    network = network_of(name)
    prunable = Prunable.of(network, SIZE)
    kept = random_kept(prunable.groups, seed=2)
    before = copy.deepcopy(network.state_dict())
    masked = MaskedNetwork(network, prunable.groups)
    found = masked(pictures(), masks_of(prunable.groups, kept), batch_statistics=True)
    slim = prunable.slimmed(kept)
    for module in slim.modules():
        module.training = isinstance(module, nn.BatchNorm2d)
    torch.testing.assert_close(found, slim(pictures()), atol=1e-4, rtol=1e-4)
    after = network.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_the_unmasked_network_is_the_original_to_the_bit(name):
    prunable = Prunable.of(network_of(name), SIZE)
    ones = [torch.ones(width) for width in prunable.widths]
    masked = MaskedNetwork(prunable.network, prunable.groups)
    assert torch.equal(masked(pictures(), ones), prunable.network(pictures()))
    slim = prunable.slimmed(all_kept(prunable.groups))
    assert torch.equal(slim(pictures()), prunable.network(pictures()))


def test_a_residual_stream_is_one_group():
    groups = {g.name: g for g in prunable_groups(network_of("cifar"), SIZE)}
    assert list(groups) == [
        "conv1",
        "layer1.0.conv1",
        "layer1.1.conv1",
        "layer2.0.conv1",
        "layer2.0.conv2",
        "layer2.1.conv1",
        "layer3.0.conv1",
        "layer3.0.conv2",
        "layer3.1.conv1",
    ]
    writers = {m.module for m in groups["layer2.0.conv2"].members if m.axis == "out"}
    assert {"layer2.0.shortcut", "layer2.0.conv2", "layer2.1.conv2", "layer2.1.bn2"} <= writers
    readers = {m.module for m in groups["layer2.0.conv2"].members if m.axis == "in"}
    assert readers == {"layer2.1.conv1", "layer3.0.conv1", "layer3.0.shortcut"}


def test_a_flattened_picture_has_several_positions_a_channel():
    groups = {g.name: g for g in prunable_groups(network_of("vgg"), SIZE)}
    reader = next(m for m in groups["features.8"].members if m.module == "classifier.0")
    assert reader.axis == "in"
    assert reader.channels == tuple(c for c in range(16) for _ in range(4))
    assert "classifier.6" not in groups


@torch.no_grad()
def test_pruned_channels_are_gone_from_every_layer():
    prunable = Prunable.of(network_of("basic"), SIZE)
    kept = random_kept(prunable.groups, seed=3)
    slim = prunable.slimmed(kept)
    for group in prunable.groups:
        for member in group.members:
            weight = slim.get_submodule(member.module).weight
            if weight.ndim > 1 or member.axis == "out":
                each = len(member.channels) // group.channels
                size = weight.shape[0 if member.axis == "out" else 1]
                assert size == each * len(kept[group.name])
    assert not any("hyper" in name or "prompt" in name for name in slim.state_dict())


def test_finding_groups_leaves_the_network_alone():
    network = network_of("cifar").train()
    network.conv1.weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    prunable_groups(network, SIZE)
    after = network.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert network.training
    assert not network.conv1.weight.requires_grad
    assert network.linear.weight.requires_grad
    assert network.linear.weight.grad is None


class Widening(nn.Module):
    """A residual stream that gets wider by zeros, without saying which channels they are."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = self.conv1(x)
        x = self.conv2(x) + F.pad(x, (0, 0, 0, 0, 2, 2))
        return self.fc(x.mean((2, 3)))


def test_a_stream_that_does_not_fit_one_mask_is_an_input_error():
    with pytest.raises(InputError, match="a residual stream must have the same ones throughout"):
        prunable_groups(Widening(), SIZE)


def test_convolutions_in_groups_are_an_input_error():
    network = nn.Sequential()
    network.conv = nn.Conv2d(4, 4, 3, groups=2)
    network.fc = nn.Linear(4, 2)
    with pytest.raises(InputError, match="conv is a convolution in groups"):
        prunable_groups(network, SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1": ()}, "the group conv1 keeps none"),
        ({"conv1": (0, 99)}, "those of conv1 must ascend from 0 to 7"),
        ({"conv1": (3, 1)}, "those of conv1 must ascend"),
        ({"conv9": (0,)}, "the group conv9 is unknown"),
        ({"conv1": None}, "the group conv1 is missing"),
    ],
)
def test_channels_of_another_network_are_an_input_error(change, message):
    groups = prunable_groups(network_of("cifar"), SIZE)
    kept = {k: v for k, v in (all_kept(groups) | change).items() if v is not None}
    with pytest.raises(InputError, match=message):
        check_kept(groups, kept)


@torch.no_grad()
def test_a_slimmed_network_comes_back_from_its_files(tmp_path):
    prunable = Prunable.of(network_of("resnet20"), SIZE)
    kept = random_kept(prunable.groups)
    slim = prunable.slimmed(kept)
    classes = tuple("abcde")
    save_slimmed(slim, "resnet20", classes, SIZE, kept, tmp_path)
    loaded = load_slimmed(tmp_path)
    assert torch.equal(loaded(pictures()), slim(pictures()))
    assert list(loaded.state_dict()) == list(prunable.network.state_dict())
    other = random_kept(prunable.groups, seed=1)
    save_slimmed(prunable.slimmed(other), "resnet20", classes, SIZE, kept, tmp_path)
    with pytest.raises(InputError, match=r"model\.safetensors is another network's"):
        load_slimmed(tmp_path)
    with pytest.raises(InputError, match=r"model\.safetensors does not exist"):
        load_slimmed(tmp_path / "nowhere")
