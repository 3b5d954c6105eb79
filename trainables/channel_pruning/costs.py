"""What a network costs with so many channels in each group: MACs of one picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.channel_pruning.dependencies import example_pictures
from trainables.channel_pruning.groups import ChannelGroup


@dataclass(frozen=True)
class AxisWidth:
    """How wide an axis of a layer is.

    Args:
        group: the number of the group whose channels it has; None where it is fixed.
        each: positions of the axis for a channel, or all positions where it is fixed.
    """

    group: int | None
    each: int

    def width(self, counts: Sequence[int]) -> int:
        """With so many channels in each group."""
        return self.each if self.group is None else counts[self.group] * self.each


@dataclass(frozen=True)
class LayerCosts:
    """A layer's MACs are `each` for a pair of what it reads and what it writes."""

    each: int
    reads: AxisWidth
    writes: AxisWidth


@dataclass(frozen=True)
class CostTable:
    """MACs of the network with any number of channels in its groups.

    MACs count every product of convolutions and linear layers, of one picture; norms, activations
    and shortcuts without weights count nothing.

    Args:
        layers: convolutions and linear layers.
        channels: of each group, unpruned.
    """

    layers: tuple[LayerCosts, ...]
    channels: tuple[int, ...]

    def macs(self, counts: Sequence[int]) -> int:
        """With so many channels in each group."""
        return sum(
            layer.each * layer.reads.width(counts) * layer.writes.width(counts)
            for layer in self.layers
        )


def cost_table(network: nn.Module, groups: Sequence[ChannelGroup], image_size: int) -> CostTable:
    """Count a network on pictures of a size."""
    axes = {
        (member.module, member.axis): AxisWidth(i, len(member.channels) // group.channels)
        for i, group in enumerate(groups)
        for member in group.members
    }
    layers = []
    for name, (weight, positions) in _products(network, image_size).items():
        out, into, *kernel = weight.shape
        layers.append(
            LayerCosts(
                torch.Size(kernel).numel() * positions,
                axes.get((name, "in"), AxisWidth(None, into)),
                axes.get((name, "out"), AxisWidth(None, out)),
            )
        )
    return CostTable(tuple(layers), tuple(group.channels for group in groups))


def count_macs(network: nn.Module, image_size: int) -> int:
    """MACs of a network as it stands, one picture."""
    return sum(
        weight.numel() * positions for weight, positions in _products(network, image_size).values()
    )


def count_params(network: nn.Module) -> int:
    """All weights of a network."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def _products(network: nn.Module, image_size: int) -> dict[str, tuple[Tensor, int]]:
    """For each convolution and linear layer its weight, and at how many positions it is used."""
    found: dict[str, tuple[Tensor, int]] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):

            def count(layer: nn.Module, _: object, output: Tensor, name: str = name) -> None:
                weight = layer.weight
                assert isinstance(weight, Tensor)
                found[name] = weight, output[0, 0].numel()

            hooks.append(module.register_forward_hook(count))
    training = network.training
    try:
        network.eval()(example_pictures(network, image_size))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return found
