"""Ray Tune with HyperOpt over designs of any family; each trial leaves a design's record."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from ray import tune
from ray.exceptions import RayActorError
from ray.tune.search.hyperopt import HyperOptSearch

from automl.base_workspace import BaseWorkspace
from automl.failures import reason
from automl.study_log import log_line
from automl.trials import LocalCallback, raise_first_error, trial_error

RETRIES = 1
"""How many times a trial whose process died, or that failed, goes on in a new one."""


class _Watcher(LocalCallback, tune.Stopper):
    """Hands a trial's reports on, says what failed, and ends the search where a trial has for good.

    Args:
        watch: told what trials report.
        say: told of what fails.
        what: a trial is of, for people.
    """

    def __init__(
        self, watch: Callable[[int, dict[str, Any]], None], say: Callable[[str], None], what: str
    ) -> None:
        self._watch, self._say, self._what = watch, say, what
        self._numbers: dict[str, int] = {}
        self._failed = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is ended early."""
        return False

    def stop_all(self) -> bool:
        """Whether a trial has failed for good."""
        return self._failed

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _is_counted_again(trial):
            return
        why = reason(trial_error(trial))
        self._say(f"the trial of a {self._what} failed: {why}; it goes on from what is on disk")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed = True

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = self._numbers.setdefault(trial.trial_id, len(self._numbers))
        self._watch(number, result)


def _is_counted_again(trial: Any) -> bool:
    """Whether a trial's failure is a process's death that was counted before.

    Tune may count it as the task's and then as the actor's: so such a trial may fail once more.

    Args:
        trial: of Tune's, which is to be tried again.
    """
    if not isinstance(trial_error(trial), RayActorError):
        return False
    counted: bool = trial.max_failures > RETRIES
    trial.max_failures = RETRIES + 1
    return counted


class Offered(Protocol):
    """The designs on offer, each a point of flat categories."""

    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """What each dimension offers."""

    def first_points(self) -> list[dict[str, Any]]:
        """Where the search starts."""


def proposals_of(space: Offered, trials: int, seed: int) -> HyperOptSearch:
    """Asks for designs: first those that the space starts from, then where it looks best."""
    dimensions = {name: tune.choice(list(offers)) for name, offers in space.choices().items()}
    return HyperOptSearch(
        space=HyperOptSearch.convert_search_space(dimensions),
        metric="hypervolume",
        mode="max",
        points_to_evaluate=space.first_points()[:trials],
        random_state_seed=seed,
    )


def run_designs(
    workspace: BaseWorkspace,
    trial: Any,
    tune_config: tune.TuneConfig,
    param_space: dict[str, Any],
    name: str,
    watch: Callable[[int, dict[str, Any]], None],
    what: str = "design",
) -> list[dict[str, Any]]:
    """Run a trial for each design that is proposed, or for each of something else.

    Args:
        workspace: of the study.
        trial: a function of a flat design, whose last report holds `record`.
        tune_config: who proposes, and how many.
        param_space: the dimensions, where the searcher doesn't know them.
        name: of the search, for Ray Tune's folder while it runs.
        watch: told the number of a trial, from 0, and what it reported.
        what: a trial is of, for people.

    Returns:
        The records, in the order in which they were proposed.

    Raises:
        InputError: a trial raised it.
    """
    storage = workspace.work / "tune"
    shutil.rmtree(storage / name, ignore_errors=True)  # of a search that was cut off
    watcher = _Watcher(watch, partial(log_line, workspace.root), what)
    results = tune.Tuner(
        # The trial only drives; what computes is reserved by the training and the search inside.
        tune.with_resources(trial, {"memory": 1 << 20}),
        param_space=param_space,
        tune_config=tune_config,
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage),
            callbacks=[watcher],
            stop=watcher,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            verbose=0,
        ),
    ).fit()
    raise_first_error(results)
    shutil.rmtree(storage / name, ignore_errors=True)
    return [result.metrics["record"] for result in results if result.metrics]
