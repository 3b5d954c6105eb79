"""Random search: what every other searcher must beat."""

import random

from automl.searchers.protocol import Problem, Values
from search_spaces.subnet import Subnet


class RandomSearch:
    """Draws from the space's own distribution, whatever it is told.

    That is the distribution that the supernet was trained on: `SubnetSpace.sample`.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self._space = problem.space
        self._rng = random.Random(seed)

    def ask(self) -> Subnet:
        """A random subnet."""
        return self._space.sample(self._rng)

    def tell(self, subnet: Subnet, values: Values) -> None:
        """Nothing is learnt."""
