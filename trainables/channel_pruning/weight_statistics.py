"""What the hypernetwork is told about a layer's weights: some numbers for each channel."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.channel_pruning.groups import ChannelGroup

Statistic = Literal["l2", "mean_abs", "std", "read_l2", "norm_scale"]
STATISTICS: tuple[Statistic, ...] = ("l2", "mean_abs", "std", "read_l2", "norm_scale")


@torch.no_grad()
def weight_statistics(
    network: nn.Module, groups: Sequence[ChannelGroup], statistics: Sequence[Statistic]
) -> list[Tensor]:
    """Statistics of each group's channels, over its layers' mean, standardised within the group.

    The paper says that weight statistics go in and not which; these are our choice. Of what layers
    write: `l2`, `mean_abs` and `std`, over a channel's weights. Of what they read: `read_l2`. Of
    batch norms: `norm_scale`, |γ|. What a group has no layer for is 0.

    Returns:
        For each group [C, statistics], mean 0 and standard deviation 1, or 0 where all channels
        are alike.
    """
    if not statistics:
        device = next(network.parameters()).device
        return [torch.zeros(group.channels, 0, device=device) for group in groups]
    found = []
    for group in groups:
        table = torch.stack([_statistic(network, group, name) for name in statistics], 1)
        spread = table.std(0, correction=0)
        found.append((table - table.mean(0)) / torch.where(spread > 1e-9, spread, 1))
    return found


def _statistic(network: nn.Module, group: ChannelGroup, name: Statistic) -> Tensor:
    """One number a channel: [C]."""
    axis = "in" if name == "read_l2" else "out"
    wanted = (nn.BatchNorm2d,) if name == "norm_scale" else (nn.Conv2d, nn.Linear)
    device = next(network.parameters()).device
    total, layers = torch.zeros(group.channels, device=device), 0
    for member in group.members:
        module = network.get_submodule(member.module)
        if member.axis != axis or not isinstance(module, wanted):
            continue
        weight = module.weight if axis == "out" else module.weight.transpose(0, 1)
        rows = weight.flatten(1) if weight.ndim > 1 else weight[:, None]
        values = _measured(rows, name)
        channels = torch.tensor(member.channels, device=device)
        positions = len(channels) / group.channels
        total.index_add_(0, channels, values / positions)
        layers += 1
    return total / max(1, layers)


def _measured(rows: Tensor, name: Statistic) -> Tensor:
    """[C, weights] to [C]."""
    if name in ("l2", "read_l2"):
        lengths: Tensor = torch.linalg.vector_norm(rows, dim=1)
        return lengths
    if name == "std":
        return rows.std(1, correction=0)
    return rows.abs().mean(1)
