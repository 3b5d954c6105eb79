"""The outer search: Ray Tune with HyperOpt over designs, each a trial with a training and a search.

Designs that do well get the same trial again with more steps and more evaluations, rung by rung
(`automl/halving.py`), up to the one that gets the final budget.
"""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

from ray import tune
from ray.exceptions import RayActorError
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.hyperopt import HyperOptSearch

from automl.config import StudyConfig
from automl.design_trial import score_design
from automl.failures import reason
from automl.halving import Budget, Rung, best_records, halving_rungs
from automl.study_log import log_line
from automl.trials import LocalCallback, raise_first_error, trial_error
from automl.workspace import Workspace
from search_spaces.design import Design


def study_rungs(config: StudyConfig) -> tuple[Rung, ...]:
    """The rungs of a study: from all designs to the one with the final budget."""
    designs, final = config.designs, config.final
    return halving_rungs(
        designs.trials,
        designs.reduction,
        Budget(designs.steps, designs.evaluations),
        Budget(final.steps, final.evaluations),
    )


def searched_rungs(config: StudyConfig) -> tuple[Rung, ...]:
    """Those that the outer search climbs: where there is something to choose, else the only one."""
    rungs = study_rungs(config)
    return tuple(rung for rung in rungs if rung.designs > 1) or rungs


RETRIES = 1
"""How many times a trial whose process died, or that failed, goes on in a new one."""


class _Watcher(LocalCallback, tune.Stopper):
    """Hands a trial's reports on, says what failed, and ends the search where a trial has for good.

    Args:
        watch: told what trials report.
        say: told of what fails.
    """

    def __init__(
        self, watch: Callable[[int, dict[str, Any]], None], say: Callable[[str], None]
    ) -> None:
        self._watch, self._say = watch, say
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
        self._say(f"the trial of a design failed: {why}; it goes on from what is on disk")

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


Watch = Callable[[int, int, dict[str, Any]], None]
"""Told the rung and the number of a trial on it, both from 0, and what the trial reported."""


def search_designs(workspace: Workspace, concurrent: int, watch: Watch) -> list[dict[str, Any]]:
    """Try designs, rung by rung, up to the final budget's.

    Args:
        workspace: of the study.
        concurrent: how many designs are tried at once.
        watch: follows the trials.

    Returns:
        The records in the order of the rungs; those of the first one in the order in which HyperOpt
        asked for them, those of the others with the best of the rung before first.

    Raises:
        InputError: no design of a rung could be trained.
    """
    first, *others = searched_rungs(workspace.config)
    reached = _propose(workspace, first, concurrent, partial(watch, 0))
    records = reached
    for number, rung in enumerate(others, start=1):
        best = [Design.from_dict(record) for record in best_records(reached, rung.designs)]
        reached = _go_on(workspace, best, rung.budget, concurrent, number, partial(watch, number))
        records = records + reached
    best_records(reached, 1)
    return records


def refine_design(workspace: Workspace, design: Design, watch: Watch) -> dict[str, Any]:
    """The last rung: train a design on and search it again, with the final budget.

    Raises:
        InputError: it could not be trained on.
    """
    rungs = study_rungs(workspace.config)
    number, budget = len(rungs) - 1, rungs[-1].budget
    records = _go_on(workspace, [design], budget, 1, number, partial(watch, number))
    return best_records(records, 1)[0]


def _propose(
    workspace: Workspace,
    rung: Rung,
    concurrent: int,
    watch: Callable[[int, dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """The first rung: HyperOpt asks for designs."""
    tune_config = tune.TuneConfig(
        search_alg=design_proposals(workspace.config),
        num_samples=rung.designs,
        max_concurrent_trials=concurrent,
    )
    return _run(workspace, rung.budget, tune_config, {}, "rung-0", watch)


def _go_on(
    workspace: Workspace,
    designs: list[Design],
    budget: Budget,
    concurrent: int,
    number: int,
    watch: Callable[[int, dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """A later rung: the designs that it was reached by."""
    points = [workspace.config.designs.space.flat(design) for design in designs]
    tune_config = tune.TuneConfig(
        search_alg=BasicVariantGenerator(points_to_evaluate=points, max_concurrent=concurrent),
        num_samples=len(points),
    )
    dimensions = _dimensions(workspace.config)
    return _run(workspace, budget, tune_config, dimensions, f"rung-{number}", watch)


def _dimensions(config: StudyConfig) -> dict[str, Any]:
    choices = config.designs.space.choices()
    return {name: tune.choice(list(options)) for name, options in choices.items()}


def design_proposals(config: StudyConfig) -> HyperOptSearch:
    """Asks for designs: first those that the space starts from, then where it looks best."""
    return HyperOptSearch(
        space=HyperOptSearch.convert_search_space(_dimensions(config)),
        metric="hypervolume",
        mode="max",
        points_to_evaluate=config.designs.space.first_points()[: config.designs.trials],
        random_state_seed=config.seed,
    )


def _run(
    workspace: Workspace,
    budget: Budget,
    tune_config: tune.TuneConfig,
    param_space: dict[str, Any],
    name: str,
    watch: Callable[[int, dict[str, Any]], None],
) -> list[dict[str, Any]]:
    storage = workspace.work / "tune"
    shutil.rmtree(storage / name, ignore_errors=True)  # of a search that was cut off
    trial = tune.with_parameters(score_design, workspace=workspace, budget=budget)
    watcher = _Watcher(watch, partial(log_line, workspace.root))
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
