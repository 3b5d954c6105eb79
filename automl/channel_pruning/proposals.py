"""The searcher of budgets that Ray Tune sees: any `Searcher`, held to what is known."""

import random
from collections.abc import Callable, Set
from typing import Any

from automl.searchers.protocol import MakeSearcher, Problem, Values
from automl.searchers.searched_proposals import SearchedProposals
from search_spaces.errors import InputError
from search_spaces.pruning_budget import BudgetSpace, PruningBudget

RUNGS = 4
"""Of the ladder that searchers start from."""
FAILED = Values(0.0, 0.0, excess=1.0)
"""What stands for a budget whose network could not be evaluated."""


class BudgetProposals(SearchedProposals[PruningBudget, Values]):
    """A Ray Tune searcher over budgets, each of which is suggested once.

    A search that starts again over the same ledger goes through the same proposals up to where it
    was, if one was evaluated at a time.

    Args:
        space: the budgets on offer.
        known: what a budget gave that was evaluated before; None where it was not.
        seed: of all random choices.
        make_searcher: of the searcher behind it.
        most: budgets that are suggested at most.
        retries: how many times each is suggested again where its evaluation fails.
    """

    def __init__(
        self,
        space: BudgetSpace,
        known: Callable[[PruningBudget], Values | None],
        seed: int,
        make_searcher: MakeSearcher,
        most: int,
        retries: int,
    ) -> None:
        problem = Problem(space, _costs, space.ladder(RUNGS), constrained=False)
        super().__init__(make_searcher(problem, seed), most, retries)
        self._space, self._scored = space, known
        self._rng = random.Random(seed)

    def _is_over(self, came: Set[PruningBudget]) -> bool:
        return len(came) == self._space.size

    def _refusal(self, budget: PruningBudget) -> Values | None:
        if not self._space.contains(budget):
            raise InputError(f"search.searcher: proposed what the space does not hold: {budget}")
        return None

    def _draw(self, came: Set[PruningBudget]) -> PruningBudget | None:
        return self._rng.choice([each for each in self._space.budgets() if each not in came])

    def _known(self, budget: PruningBudget) -> Values | None:
        return self._scored(budget)

    def _result(self, reported: dict[str, Any] | None) -> Values:
        return Values(reported["saved"], reported["quality"]) if reported else FAILED

    def _values(self, budget: PruningBudget, result: Values) -> Values:
        return result

    def _to_config(self, budget: PruningBudget) -> dict[str, Any]:
        return self._space.to_flat(budget)

    def _from_config(self, config: dict[str, Any]) -> PruningBudget:
        return self._space.from_flat(config)


def _costs(budget: PruningBudget) -> dict[str, float]:
    """What is known of a budget without an evaluation: the share of the MACs at most."""
    return {"macs": budget.share}
