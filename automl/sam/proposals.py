"""The searcher that Ray Tune sees: any `Searcher`, held to constraints and to what is known."""

import random
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from automl.pareto import objectives
from automl.searchers.hyperopt import hyperopt_search
from automl.searchers.protocol import MakeSearcher, Problem, Values
from automl.searchers.searched_proposals import SearchedProposals
from search_spaces.constraints import Constraint
from search_spaces.errors import InputError
from search_spaces.feasible import sample_feasible
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace

RUNGS = 5
"""Of the ladder that searchers start from."""
FAILED = float("-inf")
"""What is known of a subnet that could not be evaluated."""


class SubnetProposals(SearchedProposals[Subnet, float]):
    """A Ray Tune searcher over subnets for two objectives under constraints.

    Each subnet is suggested once. A proposal that breaks a constraint is answered at once with its
    excess; one that is known, with what is known; one that is being evaluated, when that is done.
    None of them costs an evaluation. One whose evaluation fails is suggested again, as another
    trial; when it has failed for good it is answered as if it broke a constraint. A search that
    starts again over the same ledger thus goes through the same proposals up to where it was, if
    one was evaluated at a time.

    Their number is bounded: after `PATIENCE` in a row that break constraints or repeat, and then
    after `RETRIES` each, a subnet that keeps the constraints and did not come yet is drawn by
    `sample_feasible`, and the searcher is told of it. As long as the searcher's own proposals fit
    they are its own; what is drawn follows the space's distribution under the constraints where a
    thousand draws hold one that fits, and else is drawn close to the bounds. The search is over
    when every subnet came, or when the draw finds none.

    Args:
        space: the subnets on offer.
        costs: a subnet's costs by name.
        parent_macs: MACs of the parent's encoder.
        constraints: bounds that a proposal must keep.
        known: what a subnet that was evaluated before scored, measured or expected; FAILED where it
            could not be evaluated; None where it was not tried.
        seed: of all random choices.
        make_searcher: of the searcher behind it.
        most: subnets that are suggested at most; None: as many as there are.
        retries: how many times each is suggested again where its evaluation fails.
        floor: the quality from which on a subnet is worth something.
    """

    def __init__(
        self,
        space: SubnetSpace,
        costs: Callable[[Subnet], Mapping[str, float]],
        parent_macs: float,
        constraints: Sequence[Constraint],
        known: Callable[[Subnet], float | None],
        seed: int,
        make_searcher: MakeSearcher = hyperopt_search,
        most: int | None = None,
        retries: int = 0,
        floor: float = 0.0,
    ) -> None:
        ladder = tuple(space.ladder(RUNGS))
        problem = Problem(space, costs, ladder, bool(constraints))
        super().__init__(make_searcher(problem, seed), most, retries)
        self._space = space
        self._costs = costs
        self._parent_macs = parent_macs
        self._floor = floor
        self._constraints = constraints
        self._scored = known
        self._rng = random.Random(seed)

    def _known(self, subnet: Subnet) -> float | None:
        return self._scored(subnet)

    def _result(self, reported: dict[str, Any] | None) -> float:
        return reported["quality"] if reported else FAILED

    def _to_config(self, subnet: Subnet) -> dict[str, Any]:
        return subnet.to_dict()

    def _from_config(self, config: dict[str, Any]) -> Subnet:
        return Subnet.from_dict(config)

    def _is_over(self, came: Set[Subnet]) -> bool:
        return len(came) == self._space.size

    def _refusal(self, subnet: Subnet) -> Values | None:
        if not self._space.contains(subnet):
            raise InputError(f"search.searcher: proposed what the space does not hold: {subnet}")
        excess = sum(c.excess(self._costs(subnet)) for c in self._constraints)
        if not excess:
            return None
        return self._unmeasured(subnet, excess)

    def _values(self, subnet: Subnet, quality: float) -> Values:
        if quality == FAILED:
            return self._unmeasured(subnet, excess=1.0)
        macs = self._costs(subnet)["encoder_macs"]
        return Values(*objectives(macs, quality, self._parent_macs, self._floor))

    def _unmeasured(self, subnet: Subnet, excess: float) -> Values:
        saved, _ = objectives(self._costs(subnet)["encoder_macs"], 0.0, self._parent_macs)
        return Values(saved, min(0.0, -self._floor), excess)

    def _draw(self, came: Set[Subnet]) -> Subnet | None:
        return sample_feasible(self._space, self._costs, self._constraints, self._rng, came)
