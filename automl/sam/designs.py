"""The outer search: Ray Tune with HyperOpt over designs, each a trial with a training and a search.

Designs that do well get the same trial again with more steps and more evaluations, rung by rung
(`automl/halving.py`), up to the one that gets the final budget.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.hyperopt import HyperOptSearch

from automl.halving import Budget, Rung, best_records, halving_rungs
from automl.outer_search import proposals_of, run_designs
from automl.sam.config import StudyConfig
from automl.sam.design_trial import score_design
from automl.sam.workspace import Workspace
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
    return proposals_of(config.designs.space, config.designs.trials, config.seed)


def _run(
    workspace: Workspace,
    budget: Budget,
    tune_config: tune.TuneConfig,
    param_space: dict[str, Any],
    name: str,
    watch: Callable[[int, dict[str, Any]], None],
) -> list[dict[str, Any]]:
    trial = tune.with_parameters(score_design, workspace=workspace, budget=budget)
    return run_designs(workspace, trial, tune_config, param_space, name, watch)
