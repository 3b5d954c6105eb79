"""Proposals of a searcher, of any family: nothing twice, nothing in vain, in bounded time."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Set
from typing import Generic

from automl.searchers.base_proposals import Proposals, R
from automl.searchers.protocol import Searcher, T, Values

PATIENCE = 100
"""Proposals in a row that may be refused or repeat before a candidate is drawn instead."""
RETRIES = 10
"""Such proposals after which the next one is drawn, until one is neither."""


class SearchedProposals(Proposals[T, R], Generic[T, R]):
    """Candidates that a searcher proposes.

    A proposal that may not be evaluated is answered at once; one that is known, with what is known;
    one that is being evaluated, when that is done. None of them costs an evaluation. Their number
    is bounded: after `PATIENCE` of them in a row, and then after `RETRIES` each, a candidate is
    drawn, and the searcher is told of it.

    Args:
        searcher: asked for candidates.
        most: candidates that are suggested at most; None: as many as there are.
        retries: how many times each is suggested again where its evaluation fails.
    """

    def __init__(self, searcher: Searcher[T], most: int | None, retries: int) -> None:
        super().__init__(most, retries)
        self._searcher = searcher
        self._repeats: Counter[T] = Counter()  # of what is pending
        self._told: dict[T, Values] = {}
        self._refused = 0

    @abstractmethod
    def _is_over(self, came: Set[T]) -> bool:
        """Whether every candidate came."""

    @abstractmethod
    def _refusal(self, candidate: T) -> Values | None:
        """What a searcher is told of a candidate that may not be evaluated; None where it may."""

    @abstractmethod
    def _values(self, candidate: T, result: R) -> Values:
        """What a searcher is told of a result."""

    @abstractmethod
    def _draw(self, came: Set[T]) -> T | None:
        """A candidate that may be evaluated and did not come yet; None where none is found."""

    @property
    def _came(self) -> set[T]:
        """Candidates that were suggested, or of which all is known."""
        return {*self._told, *self._pending.values(), *self._again}

    def _next(self) -> T | None:
        came = self._came
        if self._is_over(came):
            return None
        while self._refused < PATIENCE:
            candidate = self._searcher.ask()
            refusal = self._refusal(candidate)
            if refusal is not None:
                self._searcher.tell(candidate, refusal)
            elif candidate in self._told:
                self._searcher.tell(candidate, self._told[candidate])
            elif candidate in came:
                self._repeats[candidate] += 1
            else:
                self._refused = 0
                return candidate
            self._refused += 1
        self._refused = PATIENCE - RETRIES
        return self._draw(came)

    def _tell(self, candidate: T, result: R) -> None:
        self._told[candidate] = self._values(candidate, result)
        for _ in range(1 + self._repeats.pop(candidate, 0)):
            self._searcher.tell(candidate, self._told[candidate])
