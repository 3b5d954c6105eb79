"""From scores to masks: a threshold that leaves as much of the network as a budget says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from search_spaces.errors import InputError
from trainables.channel_pruning.costs import CostTable
from trainables.channel_pruning.groups import ChannelGroup, Kept


class Budget(BaseModel):
    """How much of a network may stay.

    Args:
        share: of what `measure` counts, in the unpruned network.
        measure: MACs, or channels of all groups together.
        allocation: `global`, one threshold for the scores of all groups; or `uniform`, the same
            share of each group's channels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(0.5, gt=0, le=1)
    measure: Literal["macs", "channels"] = "macs"
    allocation: Literal["global", "uniform"] = "global"


@dataclass(frozen=True)
class Selection:
    """Masks, and where the scores were cut.

    Args:
        masks: for each group 1 for a channel that stays and 0 for one that goes: [C].
        thresholds: for each group; channels above it stay, and some below: lest a group be empty,
            or because there was budget left for them.
    """

    masks: tuple[Tensor, ...]
    thresholds: tuple[float, ...]

    def kept(self, groups: Sequence[ChannelGroup]) -> Kept:
        """The channels that stay, by group."""
        return {
            group.name: tuple(mask.nonzero().flatten().tolist())
            for group, mask in zip(groups, self.masks, strict=True)
        }


def cost(table: CostTable, counts: Sequence[int], budget: Budget) -> int:
    """What the budget measures, with so many channels in each group."""
    return table.macs(counts) if budget.measure == "macs" else sum(counts)


def channel_prices(table: CostTable, budget: Budget) -> list[float]:
    """What one channel of each group costs in the whole network, over the mean of all channels."""
    whole = list(table.channels)
    full = cost(table, whole, budget)
    each = [
        full - cost(table, [*whole[:i], whole[i] - 1, *whole[i + 1 :]], budget)
        for i in range(len(whole))
    ]
    mean = sum(one * count for one, count in zip(each, whole, strict=True)) / sum(whole)
    return [one / mean for one in each]


def check_budget(table: CostTable, budget: Budget) -> None:
    """Check that a channel in each group is within the budget.

    Raises:
        InputError: it is not.
    """
    least = cost(table, [1] * len(table.channels), budget)
    share = least / cost(table, table.channels, budget)
    if share > budget.share:
        what = "MACs" if budget.measure == "macs" else "channels"
        raise InputError(
            f"budget: a share of {budget.share:g} of the {what} is below one channel a group, "
            f"which is {share:.4g}; give more than that"
        )


@torch.no_grad()
def select(scores: Sequence[Tensor], table: CostTable, budget: Budget) -> Selection:
    """Keep the channels that score highest, as many as the budget pays for.

    What a threshold leaves of the budget, because the next channel costs too much, goes to the best
    of those that fit; where each group keeps the same share, one a group. Each group keeps its best
    channel at least. Of equal scores those of earlier groups and channels win.

    Args:
        scores: for each group [C].
        table: of the same groups.
        budget: what may stay; one that `check_budget` accepts.
    """
    # A share of exactly 1 must leave all, whatever rounding does.
    limit = budget.share * cost(table, table.channels, budget) * (1 + 1e-9)

    def fits(counts: Sequence[int]) -> bool:
        return cost(table, counts, budget) <= limit

    orders = [score.detach().argsort(descending=True, stable=True) for score in scores]
    ranked = [score.detach()[order].cpu() for score, order in zip(scores, orders, strict=True)]
    if budget.allocation == "global":
        counts, threshold = _global(ranked, fits)
        thresholds, extra = [threshold] * len(scores), max(table.channels)
    else:
        counts, extra = _uniform(table.channels, fits), 1
        thresholds = [_cut(own, count) for own, count in zip(ranked, counts, strict=True)]
    counts = _filled(ranked, counts, extra, fits)
    masks = []
    for score, order, count in zip(scores, orders, counts, strict=True):
        mask = torch.zeros_like(score)
        mask[order[:count]] = 1
        masks.append(mask)
    return Selection(tuple(masks), tuple(thresholds))


def _global(
    ranked: Sequence[Tensor], fits: Callable[[Sequence[int]], bool]
) -> tuple[list[int], float]:
    """How many channels of each group are above the lowest threshold that fits, and it.

    Args:
        ranked: the scores of each group, descending.
        fits: whether so many channels of each group are within the budget.
    """
    # Each group's best is not at stake.
    group_of = torch.cat([torch.full((len(own) - 1,), i) for i, own in enumerate(ranked)])
    descending, order = torch.cat([own[1:] for own in ranked]).sort(descending=True, stable=True)

    def counts(number: int) -> list[int]:
        above = torch.bincount(group_of[order[:number]], minlength=len(ranked))
        return [int(count) + 1 for count in above]

    number = _most(len(order), lambda n: fits(counts(n)))
    return counts(number), _cut(descending, number)


def _uniform(channels: Sequence[int], fits: Callable[[Sequence[int]], bool]) -> list[int]:
    """The same share of each group, rounded down, in thousandths."""

    def counts(thousandths: int) -> list[int]:
        return [max(1, width * thousandths // 1000) for width in channels]

    return counts(_most(1000, lambda n: fits(counts(n))))


def _filled(
    ranked: Sequence[Tensor],
    counts: Sequence[int],
    extra: int,
    fits: Callable[[Sequence[int]], bool],
) -> list[int]:
    """Counts with more channels, by score, up to so many in each group, while one fits."""
    filled = list(counts)
    scores = [own.tolist() for own in ranked]

    def fitting() -> list[tuple[float, int]]:
        found = []
        for i, count in enumerate(filled):
            more = [*filled[:i], count + 1, *filled[i + 1 :]]
            if count < min(len(scores[i]), counts[i] + extra) and fits(more):
                found.append((scores[i][count], -i))
        return found

    while candidates := fitting():
        filled[-max(candidates)[1]] += 1
    return filled


def _cut(descending: Tensor, number: int) -> float:
    """A threshold that so many of the scores are above: half way to the next, if there is one."""
    if not len(descending):
        return 0.0
    if number in (0, len(descending)):  # 1 is as good a distance as any
        return float(descending[0]) + 1 if number == 0 else float(descending[-1]) - 1
    return float(descending[number - 1 : number + 1].mean())


def _most(highest: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `highest` that fits; 0 does, and less than what fits does."""
    low, high = 0, highest
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
