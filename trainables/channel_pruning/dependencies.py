"""What depends on a channel, and its real removal: all of it is torch-pruning's work."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from search_spaces.errors import InputError
from trainables.channel_pruning.cifar_resnet import PaddedShortcut
from trainables.channel_pruning.groups import Axis, ChannelGroup, Member, check_kept
from trainables.channel_pruning.networks import classifier_name

_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, PaddedShortcut)


class ShortcutPruner(tp.BasePruningFunc):
    """Tells torch-pruning how a `PaddedShortcut` loses channels: each side for itself."""

    def prune_out_channels(self, layer: PaddedShortcut, idxs: Sequence[int]) -> PaddedShortcut:
        """Of the stream behind it."""
        layer.remove_outputs(list(idxs))
        return layer

    def prune_in_channels(self, layer: PaddedShortcut, idxs: Sequence[int]) -> PaddedShortcut:
        """Of the stream before it."""
        layer.remove_inputs(list(idxs))
        return layer

    def get_out_channels(self, layer: PaddedShortcut) -> int:
        """Of the stream behind it."""
        return layer.out_channels

    def get_in_channels(self, layer: PaddedShortcut) -> int:
        """Of the stream before it."""
        return layer.in_channels


def run_network(network: nn.Module, pictures: Tensor) -> Any:
    """How torch-pruning is to call a network.

    Left alone it tries the pictures one by one first, and takes the layers that ran before this
    failed for layers that are used twice.
    """
    return network(pictures)


def example_pictures(network: nn.Module, image_size: int) -> Tensor:
    """A picture of zeros [1, 3, S, S], where the network is and of its precision."""
    weight = next(network.parameters())
    return torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype)


def prunable_groups(network: nn.Module, image_size: int) -> tuple[ChannelGroup, ...]:
    """The groups in the order in which the network's first layers that write them stand.

    The classifier's outputs are the classes, and stay.

    Args:
        network: convolutions, linear layers, batch norms and `PaddedShortcut`s; left as it is.
        image_size: side of the pictures it is for, pixels.

    Raises:
        InputError: it has convolutions in groups, or a residual stream whose channels don't fit
            one mask.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            raise InputError(f"network: {name} is a convolution in groups, which can't be pruned")
    graph = _graph(network, image_size)
    names = {module: name for name, module in network.named_modules()}
    groups, written = [], {names[network.get_submodule(classifier_name(network))]}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name not in written:
            group = _group(graph, name, module, names)
            written |= {member.module for member in group.members if member.axis == "out"}
            groups.append(group)
    return tuple(groups)


def slimmed(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    kept: Mapping[str, Sequence[int]],
    image_size: int,
) -> nn.Module:
    """A smaller network that has the kept channels only; the given one is left as it is.

    In eval mode it computes what the masked network computes.

    Raises:
        InputError: the kept channels are another network's.
    """
    check_kept(groups, kept)
    small = copy.deepcopy(network)
    graph = _graph(small, image_size)
    for group in groups:
        gone = sorted(set(range(group.channels)) - set(kept[group.name]))
        if gone:
            root = small.get_submodule(group.name)
            graph.get_pruning_group(root, _writes(root), gone).prune()
    small.train(network.training)
    return small


def group_l1(network: nn.Module, groups: Sequence[ChannelGroup], image_size: int) -> list[Tensor]:
    """Each channel's L1 norm over all weights of its group, relative to the group's mean: [C].

    This is torch-pruning's own score; a baseline by itself, and what a hypernetwork starts from.
    """
    importance = tp.importance.GroupMagnitudeImportance(p=1, normalizer="mean")
    graph, scores = _graph(network, image_size), []
    for group in groups:
        root = network.get_submodule(group.name)
        found = importance(graph.get_pruning_group(root, _writes(root), range(group.channels)))
        scores.append(found.detach().cpu())
    return scores


def _graph(network: nn.Module, image_size: int) -> Any:
    training = network.training
    trained = {p: p.requires_grad for p in network.parameters()}
    try:
        # Dependencies are read off autograd's graph, which frozen weights don't have.
        network.requires_grad_(True)
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tp.DependencyGraph().build_dependency(
                network,
                example_inputs=example_pictures(network, image_size),
                forward_fn=run_network,
                customized_pruners={PaddedShortcut: ShortcutPruner()},
            )
    finally:
        network.train(training)
        for p, was in trained.items():
            p.requires_grad_(was)


def _writes(module: nn.Module) -> Any:
    """torch-pruning's name for the removal of what a layer writes."""
    if isinstance(module, nn.Linear):
        return tp.prune_linear_out_channels
    return tp.prune_conv_out_channels


def _group(
    graph: Any, name: str, root: nn.Conv2d | nn.Linear, names: Mapping[nn.Module, str]
) -> ChannelGroup:
    channels = root.weight.shape[0]
    members = []
    for item in graph.get_pruning_group(root, _writes(root), range(channels)):
        layer = item.dep.target.module
        if isinstance(layer, _LAYERS):
            writes = graph.is_out_channel_pruning_fn(item.dep.handler)
            axis: Axis = "out" if writes or isinstance(layer, nn.BatchNorm2d) else "in"
            positions = dict(zip(item.idxs, item.root_idxs, strict=True))
            size = _size(layer, axis)
            if sorted(positions) != list(range(size)):
                raise InputError(
                    f"network: the {channels} channels of {name} don't fit the {size} of "
                    f"{names[layer]}; a residual stream must have the same ones throughout"
                )
            found = tuple(positions[i] for i in range(size))
            members.append(Member(names[layer], axis, found))
    return ChannelGroup(name, channels, tuple(members))


def _size(layer: nn.Module, axis: Axis) -> int:
    """Positions of an axis of a layer's weight."""
    if isinstance(layer, nn.BatchNorm2d):
        return layer.num_features
    if isinstance(layer, PaddedShortcut):
        return layer.out_channels if axis == "out" else layer.in_channels
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.shape[0 if axis == "out" else 1]
