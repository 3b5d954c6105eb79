"""Which plan of a convolution to measure next, as Ray Tune sees it."""

import random
from collections.abc import Callable, Sequence, Set
from typing import Any

from automl.ledger import Row
from automl.searchers.protocol import MakeSearcher, Problem, Values
from automl.searchers.searched_proposals import SearchedProposals
from search_spaces.conv_plan import ConvPlan
from search_spaces.conv_tiles import PlanSpace
from search_spaces.errors import InputError

REPORTED = ("latency_ms", "peak_bytes", "failure")
"""Columns of a row that a trial reports beside it: Tune hands a searcher no nested values."""
FAILED: Row = {"failure": "its evaluation failed"}
"""What is known of a plan whose evaluation left no row."""


class PlanProposals(SearchedProposals[ConvPlan, Row]):
    """A Ray Tune searcher over the plans of one convolution, for time and memory.

    The baselines come first, in their order, then what the searcher proposes. A plan that does not
    suit the convolution, or failed, counts as if it broke a constraint.

    Args:
        space: the plans on offer.
        baselines: measured in any case; they need not be in the space.
        known: the row of a plan that was measured before; None where it was not.
        seed: of all random choices.
        make_searcher: of the searcher behind it.
        most: plans that are suggested at most.
        retries: how many times each is suggested again where its evaluation fails.
    """

    def __init__(
        self,
        space: PlanSpace,
        baselines: Sequence[ConvPlan],
        known: Callable[[ConvPlan], Row | None],
        seed: int,
        make_searcher: MakeSearcher,
        most: int,
        retries: int,
    ) -> None:
        # Without bounds: of plans that do not suit the searcher is told as of those that fail.
        problem = Problem(space, lambda plan: {}, (), constrained=True)
        super().__init__(make_searcher(problem, seed), most, retries)
        self._space, self._baselines, self._rows = space, baselines, known
        self._rng = random.Random(seed)

    def _known(self, plan: ConvPlan) -> Row | None:
        return self._rows(plan)

    def _result(self, reported: dict[str, Any] | None) -> Row:
        return {name: reported.get(name) for name in REPORTED} if reported else FAILED

    def _to_config(self, plan: ConvPlan) -> dict[str, Any]:
        return plan.to_dict()

    def _from_config(self, config: dict[str, Any]) -> ConvPlan:
        return ConvPlan.from_dict(config)

    def _next(self) -> ConvPlan | None:
        came = self._came
        return next((plan for plan in self._baselines if plan not in came), None) or super()._next()

    def _tell(self, plan: ConvPlan, row: Row) -> None:
        if self._space.contains(plan):
            super()._tell(plan, row)
        else:
            self._told[plan] = self._values(plan, row)

    def _is_over(self, came: Set[ConvPlan]) -> bool:
        return came >= set(self._space.plans)

    def _refusal(self, plan: ConvPlan) -> Values | None:
        if self._space.contains(plan):
            return None
        flat, offered = self._space.to_flat(plan), self._space.choices()
        if any(flat[name] not in offered[name] for name in offered):
            raise InputError(f"search.searcher: proposed what is not on offer: {plan}")
        return Values(0.0, 0.0, excess=1.0)

    def _values(self, plan: ConvPlan, row: Row) -> Values:
        if row.get("failure"):
            return Values(0.0, 0.0, excess=1.0)
        # Which plans are better does not depend on the unit.
        return Values(1 / row["peak_bytes"], 1 / row["latency_ms"])

    def _draw(self, came: Set[ConvPlan]) -> ConvPlan | None:
        left = [plan for plan in self._space.plans if plan not in came]
        return self._rng.choice(left) if left else None
