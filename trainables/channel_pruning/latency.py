"""Measured latency of networks beside each other."""

import statistics
from collections.abc import Sequence

import torch
from torch import nn

from trainables.channel_pruning.dependencies import example_pictures
from trainables.clock import clock_of

ROUNDS = 30
"""Passes of each network that count."""
WARM_UP = 3


@torch.no_grad()
def latencies(networks: Sequence[nn.Module], image_size: int, rounds: int = ROUNDS) -> list[float]:
    """The median milliseconds of one picture through each network.

    The networks take turns, so that whatever slows the machine down meets all of them alike.

    Args:
        networks: in eval mode, on one device.
        image_size: side of the picture, pixels.
        rounds: passes of each.
    """
    picture = example_pictures(networks[0], image_size)
    clock = clock_of(picture.device)
    found: list[list[float]] = [[] for _ in networks]
    for turn in range(WARM_UP + rounds):
        for network, times in zip(networks, found, strict=True):
            start = clock.mark()
            network(picture)
            ms = clock.ms(start, clock.mark())
            if turn >= WARM_UP:
                times.append(ms)
    return [statistics.median(times) for times in found]
