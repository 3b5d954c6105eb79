"""What Ray Tune sees of any search: candidates, each once, and again where an evaluation fails."""

from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Generic, TypeVar

from ray.tune.search import Searcher as TuneSearcher

FINISHED = str(TuneSearcher.FINISHED)
T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


class Proposals(TuneSearcher, Generic[T, R]):
    """Candidates T with results R. One that is known costs no evaluation.

    One whose evaluation fails is suggested again, as another trial.

    Args:
        most: candidates that are suggested at most; None: as many as there are.
        retries: how many times each is suggested again where its evaluation fails.
    """

    def __init__(self, most: int | None, retries: int) -> None:
        super().__init__(metric="quality", mode="max")
        self._pending: dict[str, T] = {}
        self._ended = False
        self._left, self._retries = most, retries
        self._failures: Counter[T] = Counter()
        self._again: deque[T] = deque()

    @abstractmethod
    def _next(self) -> T | None:
        """A candidate that did not come yet; None where there is none."""

    @abstractmethod
    def _known(self, candidate: T) -> R | None:
        """What is known of a candidate without an evaluation; None where it was not tried."""

    @abstractmethod
    def _result(self, reported: dict[str, Any] | None) -> R:
        """What a trial reported; of None, what stands for a failure."""

    @abstractmethod
    def _tell(self, candidate: T, result: R) -> None:
        """Learn from a result."""

    @abstractmethod
    def _to_config(self, candidate: T) -> dict[str, Any]:
        """A trial's configuration."""

    @abstractmethod
    def _from_config(self, config: dict[str, Any]) -> T:
        """The inverse of `_to_config`."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next candidate to evaluate.

        FINISHED where none is left; None where one is only if an evaluation that runs fails.
        """
        if self._ended:
            return FINISHED
        candidate = self._again.popleft() if self._again else self._unknown()
        if candidate is None:
            return None if self._pending else FINISHED
        self._pending[trial_id] = candidate
        return self._to_config(candidate)

    def _unknown(self) -> T | None:
        """The next candidate of which nothing is known; what is known before it is told."""
        while self._left != 0 and (candidate := self._next()) is not None:
            result = self._known(candidate)
            if result is None:
                self._left = None if self._left is None else self._left - 1
                return candidate
            self._tell(candidate, result)
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn what a candidate's evaluation gave, unless it is to be tried again."""
        candidate = self._pending.pop(trial_id)
        self._failures[candidate] += error
        if error and self._failures[candidate] <= self._retries:
            self._again.append(candidate)
            return
        self._tell(candidate, self._result(None if error else result))

    def is_tried_again(self, config: dict[str, Any]) -> bool:
        """Whether a candidate whose evaluation failed waits for another one.

        Args:
            config: of its trial.
        """
        return self._from_config(config) in self._again

    def end(self) -> None:
        """Propose nothing more."""
        self._ended = True

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: what Tune pickles is never read, and a searcher may hold anything."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """The ledger is the state: a search that starts again asks itself up to where it was."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore; see `save`."""
