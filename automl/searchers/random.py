"""Random search: what every other searcher must beat."""

import random
from typing import Generic

from automl.searchers.protocol import Problem, T, Values


class RandomSearch(Generic[T]):
    """Draws from the space's own distribution, whatever it is told.

    That is the distribution that the supernet was trained on: `SubnetSpace.sample`.
    """

    def __init__(self, problem: Problem[T], seed: int) -> None:
        self._space = problem.space
        self._rng = random.Random(seed)

    def ask(self) -> T:
        """A random subnet."""
        return self._space.sample(self._rng)

    def tell(self, subnet: T, values: Values) -> None:
        """Nothing is learnt."""
