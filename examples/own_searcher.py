"""A searcher of one's own: half of its proposals change one layer of a subnet on the front.

    supersam run search.searcher=examples/own_searcher.py:Neighbours

`automl/searchers/protocol.py` says what it is given and told. It may repeat itself and may break
constraints; that is taken care of.
"""

import random

from automl.pareto import front_of
from automl.searchers.protocol import Problem, Values
from search_spaces import Subnet


class Neighbours:
    def __init__(self, problem: Problem, seed: int) -> None:
        self.space, self.rng = problem.space, random.Random(seed)
        self.found: dict[Subnet, tuple[float, float]] = {}

    def ask(self) -> Subnet:
        drawn = self.space.sample(self.rng)
        choices = self.space.choices()
        if not choices or not self.found or self.rng.random() < 0.5:
            return drawn
        best = self.rng.choice(front_of(list(self.found), list(self.found.values())))
        name = self.rng.choice(list(choices))
        return self.space.from_flat(
            {**self.space.to_flat(best), name: self.rng.choice(choices[name])}
        )

    def tell(self, subnet: Subnet, values: Values) -> None:
        if not values.excess:
            self.found[subnet] = values.saved, values.quality
