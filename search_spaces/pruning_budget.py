"""Budgets of pruning, and the space of them that the inner search covers."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.pruner_design import Allocation


@dataclass(frozen=True, order=True)
class PruningBudget:
    """How much of a network may stay.

    Args:
        share: of the unpruned network's MACs.
        allocation: one threshold for all groups of channels, or the same share of each.
    """

    share: float
    allocation: Allocation


@dataclass(frozen=True)
class BudgetSpace:
    """The budgets on offer.

    Args:
        shares: of the MACs.
        allocations: how each may be cut.
    """

    shares: tuple[float, ...]
    allocations: tuple[Allocation, ...]

    @property
    def size(self) -> int:
        """How many budgets there are."""
        return len(self.shares) * len(self.allocations)

    @property
    def smallest(self) -> float:
        """The least share."""
        return min(self.shares)

    def budgets(self) -> tuple[PruningBudget, ...]:
        """All of them, largest first."""
        return tuple(
            PruningBudget(share, allocation)
            for share in sorted(self.shares, reverse=True)
            for allocation in self.allocations
        )

    def ladder(self, rungs: int) -> tuple[PruningBudget, ...]:
        """At most so many from the largest share to the smallest, evenly, cut the first way."""
        own = [each for each in self.budgets() if each.allocation == self.allocations[0]]
        rungs = min(rungs, len(own))
        places = [round(i * (len(own) - 1) / max(1, rungs - 1)) for i in range(rungs)]
        return tuple(own[place] for place in dict.fromkeys(places))

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The flat form for a searcher."""
        return {"share": self.shares, "allocation": self.allocations}

    def to_flat(self, budget: PruningBudget) -> dict[str, Any]:
        """The point of `choices()` that stands for a budget."""
        return {"share": budget.share, "allocation": budget.allocation}

    def from_flat(self, flat: Mapping[str, Any]) -> PruningBudget:
        """The budget of a point."""
        return PruningBudget(flat["share"], flat["allocation"])

    def sample(self, rng: random.Random) -> PruningBudget:
        """Draw one; each is as likely as any other."""
        return rng.choice(self.budgets())

    def contains(self, budget: PruningBudget) -> bool:
        """Whether it is on offer."""
        return budget.share in self.shares and budget.allocation in self.allocations
