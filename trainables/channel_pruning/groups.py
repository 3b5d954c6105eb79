"""Channels that stay or go together: the prunable groups of a network.

All convolutions that add into one residual stream write the same channels, and all that read the
stream read them: they are one group and have one mask. Which these are is torch-pruning's finding
(DepGraph, arXiv 2301.12900); here it becomes a value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from search_spaces.errors import InputError

Axis = Literal["out", "in"]
Kept = dict[str, tuple[int, ...]]
"""For each group, by name, the channels that stay, ascending."""


@dataclass(frozen=True)
class Member:
    """One axis of a layer's weight.

    Args:
        module: the layer's path in the network.
        axis: `out` for what the layer writes (and for norms), `in` for what it reads.
        channels: for each position of the axis the group's channel; a linear layer behind a
            flattened picture has several positions a channel.
    """

    module: str
    axis: Axis
    channels: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether each position is the channel of the same number."""
        return self.channels == tuple(range(len(self.channels)))


@dataclass(frozen=True)
class ChannelGroup:
    """Channels with one mask.

    Args:
        name: the path of the first layer that writes them.
        channels: how many.
        members: every axis that has them.
    """

    name: str
    channels: int
    members: tuple[Member, ...]

    @property
    def is_stream(self) -> bool:
        """Whether several layers add into it: more than one, and its norm, write it."""
        return sum(member.axis == "out" for member in self.members) > 2

    def to_dict(self) -> dict[str, Any]:
        """Name and size, as JSON."""
        return {"name": self.name, "channels": self.channels}


def all_kept(groups: Sequence[ChannelGroup]) -> Kept:
    """Nothing is pruned."""
    return {group.name: tuple(range(group.channels)) for group in groups}


def check_kept(groups: Sequence[ChannelGroup], kept: Mapping[str, Sequence[int]]) -> None:
    """Check that kept channels are some of these groups', and at least one of each.

    Raises:
        InputError: they belong to another network, or leave a group without a channel.
    """
    names = [group.name for group in groups]
    for name in sorted(set(names) ^ set(kept)):
        what = "unknown" if name in kept else "missing"
        raise InputError(f"kept channels: the group {name} is {what}; they are another network's")
    for group in groups:
        chosen = list(kept[group.name])
        if not chosen:
            raise InputError(f"kept channels: the group {group.name} keeps none; it needs one")
        if chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= group.channels:
            raise InputError(
                f"kept channels: those of {group.name} must ascend from 0 to "
                f"{group.channels - 1} at most; they are another network's"
            )
