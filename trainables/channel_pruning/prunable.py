"""A network with all that pruning needs to know of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from trainables.channel_pruning.costs import CostTable, cost_table
from trainables.channel_pruning.dependencies import group_l1, prunable_groups, slimmed
from trainables.channel_pruning.groups import ChannelGroup


@dataclass(frozen=True)
class Prunable:
    """A network, its groups and what they cost.

    Args:
        network: unpruned.
        image_size: side of its pictures, pixels.
        groups: its prunable groups.
        table: what they cost.
    """

    network: nn.Module
    image_size: int
    groups: tuple[ChannelGroup, ...]
    table: CostTable

    @classmethod
    def of(cls, network: nn.Module, image_size: int) -> "Prunable":
        """Find the groups and count them.

        Raises:
            InputError: the network can't be pruned.
        """
        groups = prunable_groups(network, image_size)
        return cls(network, image_size, groups, cost_table(network, groups, image_size))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each group."""
        return self.table.channels

    def slimmed(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        """A network with the kept channels only.

        Raises:
            InputError: they are another network's.
        """
        return slimmed(self.network, self.groups, kept, self.image_size)

    def macs(self, kept: Mapping[str, Sequence[int]]) -> int:
        """MACs of one picture with the kept channels only."""
        return self.table.macs([len(kept[group.name]) for group in self.groups])

    def prior(self) -> list[Tensor]:
        """Each channel's L1 norm, relative to its group's mean: [C]."""
        device = next(self.network.parameters()).device
        found = group_l1(self.network, self.groups, self.image_size)
        return [scores.to(device) for scores in found]
