"""HyperOpt's tree-structured Parzen estimator along several trade-offs, asked in turn."""

from collections import defaultdict

from ray import tune
from ray.tune.search.hyperopt import HyperOptSearch

from automl.searchers.protocol import Problem, Searcher, Values
from automl.searchers.random import RandomSearch
from search_spaces.subnet import Subnet

TRADE_OFFS = (0.5, 0.3, 0.7)
"""Weights of mIoU against MACs saved; one HyperOpt search each, asked in turn."""
STARTUP = 6
"""Random proposals of each search before HyperOpt models what it was told."""


def scalarised(saved: float, miou: float, weight: float) -> float:
    """The augmented Chebyshev distance to (1, 1), negated: higher is better.

    Unlike a weighted sum it reaches every point of a front, convex or not (Steuer and Choo, 1983).
    """
    missing = (1 - weight) * (1 - saved), weight * (1 - miou)
    return -(max(missing) + 0.05 * sum(missing))


def hyperopt_search(problem: Problem, seed: int) -> Searcher:
    """HyperOpt; a space without any choice, which it refuses, has one subnet to draw."""
    make = HyperOptSearches if problem.space.choices() else RandomSearch
    return make(problem, seed)


class HyperOptSearches:
    """One HyperOpt search for each trade-off, all from the ladder; asked in turn.

    What breaks constraints is worth less than any subnet that keeps them, by its excess. HyperOpt
    can't be told of what it did not propose.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self._space = problem.space
        choices = {name: tune.choice(list(o)) for name, o in problem.space.choices().items()}
        self._searches = [
            HyperOptSearch(
                space=HyperOptSearch.convert_search_space(choices),
                metric="objective",
                mode="max",
                points_to_evaluate=[problem.space.to_flat(subnet) for subnet in problem.ladder],
                n_initial_points=STARTUP,
                random_state_seed=seed + i,
            )
            for i in range(len(TRADE_OFFS))
        ]
        self._count = 0
        self._open: defaultdict[Subnet, list[int]] = defaultdict(list)

    def ask(self) -> Subnet:
        """The next proposal of the search whose turn it is."""
        number = self._count
        self._count += 1
        subnet = self._space.from_flat(
            self._searches[number % len(TRADE_OFFS)].suggest(str(number))
        )
        self._open[subnet].append(number)
        return subnet

    def tell(self, subnet: Subnet, values: Values) -> None:
        """Answer the search whose open proposal of this subnet is the oldest."""
        if not self._open[subnet]:
            return
        number = self._open[subnet].pop(0)
        turn = number % len(TRADE_OFFS)
        objective = (
            -1.0 - values.excess
            if values.excess
            else scalarised(values.saved, values.miou, TRADE_OFFS[turn])
        )
        self._searches[turn].on_trial_complete(str(number), {"objective": objective})
