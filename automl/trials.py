"""Ray Tune over candidates that long-lived actors evaluate, each result in the ledger at once.

An evaluation that fails is tried once more, in a new process, since machines fail as well; then its
row says why, and the search goes on unless too many fail in a row.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune

from automl.base_config import ResourcesConfig
from automl.failures import reason
from automl.ledger import Ledger, Row
from automl.placement import await_evaluator
from automl.searchers.base_proposals import Proposals
from automl.trial_order import NewestFirst
from search_spaces.errors import InputError

RETRIES = 1
"""How many times an evaluation that failed is tried again, in a new process."""
FAILURES = 10
"""So many candidates in a row that could not be evaluated end a search."""
FIRST_FAILURES = 3
"""So many do where none could be evaluated before."""


class LocalCallback(tune.Callback):
    """A callback that may hold anything: Tune's saved state, which is never read, leaves it out."""

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Saved as a callback that does nothing."""
        return tune.Callback, ()


class SearchFailedError(RuntimeError):
    """Too many candidates in a row could not be evaluated."""


class Recorder(LocalCallback):
    """Writes each result into the ledger as soon as it is there.

    Args:
        ledger: of the search.
        more: completes the row of a candidate that was evaluated.
        failed: from a trial's configuration and a reason the row of one that could not be.
        proposals: told to end where it makes no sense to go on.
        report: called after each.
        say: told of what fails.
        what: is evaluated, such as "subnet", for people; the column of this name has its key.

    Attributes:
        error: why it makes no sense to go on.
    """

    def __init__(
        self,
        ledger: Ledger,
        more: Callable[[Row], Row],
        failed: Callable[[dict[str, Any], str], Row],
        proposals: Proposals[Any, Any],
        report: Callable[[], None],
        say: Callable[[str], None],
        what: str,
    ) -> None:
        self._ledger, self._more, self._failed = ledger, more, failed
        self._proposals, self._report, self._say = proposals, report, say
        self._what = what
        self._in_a_row = 0
        self.error: Exception | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A candidate was evaluated."""
        self._in_a_row = 0
        self._ledger.record({**result["row"], **self._more(result["row"])})
        self._report()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An evaluation failed."""
        error = trial_error(trial)
        if isinstance(error, InputError):
            self._give_up(error)
            return
        why = reason(error)
        row = self._failed(trial.config, why)
        name = f"{self._what} {row[self._what]}"
        if self._proposals.is_tried_again(trial.config):
            self._say(f"the evaluation of {name} failed: {why}; it is tried again")
            return
        self._say(f"{name} could not be evaluated: {why}; the search goes on")
        self._ledger.record(row)
        self._report()
        self._in_a_row += 1
        none_before = all(row["failure"] for row in self._ledger.rows())
        if self._in_a_row >= (FIRST_FAILURES if none_before else FAILURES):
            said = (
                f"{self._in_a_row} {self._what}s in a row could not be evaluated; the last: {why}"
            )
            self._give_up(SearchFailedError(said))

    def _give_up(self, error: Exception) -> None:
        self.error = self.error or error
        self._proposals.end()


def run_trials(
    trial: Any,
    proposals: Proposals[Any, Any],
    recorder: Recorder,
    resources: ResourcesConfig,
    folder: Path,
    most: int,
) -> None:
    """Evaluate what is proposed until nothing more is.

    Args:
        trial: a trainable that evaluates one candidate a trial, and keeps what they share.
        proposals: with `RETRIES` for each.
        recorder: of the same proposals.
        resources: of the study.
        folder: for Ray Tune, while it runs.
        most: candidates.

    Raises:
        SearchFailedError: too many in a row could not be evaluated.
        InputError: a trial raised it, or the cluster has no room.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a search that was cut off
    tune.Tuner(
        tune.with_resources(trial, await_evaluator(resources).bundle),
        tune_config=tune.TuneConfig(
            search_alg=proposals,
            scheduler=NewestFirst(),
            num_samples=most * (1 + RETRIES),  # proposals end before
            max_concurrent_trials=resources.evaluators,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            callbacks=[recorder],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            # Tune's own retries count the death of a process once for each of its open calls.
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    ).fit()
    shutil.rmtree(folder, ignore_errors=True)
    if recorder.error is not None:
        raise recorder.error


def trial_error(trial: Any) -> Exception:
    """What a trial of Tune's failed of."""
    # Tune's own copy, not `get_pickled_error`: that reads what is yet to be brought to storage.
    return _cause(cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()))


def _cause(error: Exception) -> Exception:
    """What a trial raised, out of what Ray made of it."""
    while isinstance(cause := getattr(error, "cause", None), Exception):
        error = cause
    return error


def raise_first_error(results: tune.ResultGrid) -> None:
    """A failed trial, or one without metrics, is an error, never an empty result.

    Raises:
        InputError: that is what a trial raised.
        RuntimeError: it failed of something else, or has no metrics.
    """
    for result in results:
        if result.error is not None and isinstance(cause := _cause(result.error), InputError):
            raise cause
        if result.error is not None:
            raise RuntimeError(f"a trial failed: {result.error}") from result.error
    for result in results:  # a trial's failure may have ended others
        if not result.metrics:
            raise RuntimeError(f"a trial ended without metrics: {result.path}")
