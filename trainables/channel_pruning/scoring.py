"""From a hypernetwork and a network to the channels that stay."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.channel_pruning.budgets import Budget, Selection, check_budget, select
from trainables.channel_pruning.hypernetwork import HyperNetwork
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.weight_statistics import weight_statistics

ALL_KEPT = -1e9
"""A threshold that every score is above."""


class Scorer:
    """Scores a network's channels with a hypernetwork; holds what does not change while it learns.

    Args:
        hypernetwork: made for the network's widths.
        prunable: the network.

    Raises:
        InputError: the hypernetwork was made for another network.
    """

    def __init__(self, hypernetwork: HyperNetwork, prunable: Prunable) -> None:
        self.hypernetwork = hypernetwork
        self._places = hypernetwork.places(prunable.groups)
        chosen = hypernetwork.settings.statistics
        self._statistics = weight_statistics(prunable.network, prunable.groups, chosen)
        self._prior = prunable.prior()

    def __call__(self, thresholds: Sequence[float]) -> list[Tensor]:
        """Each group's scores [C], given the thresholds that its step sees the last mask by."""
        scores: list[Tensor] = self.hypernetwork(
            self._statistics, self._prior, thresholds, self._places
        )
        return scores


@torch.no_grad()
def find_channels(
    hypernetwork: HyperNetwork,
    prunable: Prunable,
    budget: Budget,
    *,
    rounds: int = 10,
) -> Selection:
    """The masks that a hypernetwork gives a network, its own or another of the same widths.

    Args:
        hypernetwork: trained on any network.
        prunable: the network.
        budget: what may stay.
        rounds: how often it runs at most: the thresholds by which a step sees the last mask are
            those of the run before.

    Raises:
        InputError: the budget is out of reach, or the hypernetwork doesn't fit the network.
    """
    check_budget(prunable.table, budget)
    scorer = Scorer(hypernetwork, prunable)
    last = [ALL_KEPT] * len(prunable.groups)
    while True:
        selection = select(scorer(last), prunable.table, budget)
        rounds -= 1
        if rounds <= 0 or list(selection.thresholds) == last:
            return selection
        last = list(selection.thresholds)
