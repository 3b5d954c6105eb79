"""The outer search: Ray Tune with HyperOpt over designs, each a trial with a training and a search.

The best design then gets the same trial once more, with the final budget.
"""

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from automl.channel_pruning.trial import score_design
from automl.channel_pruning.workspace import PruningWorkspace
from automl.halving import Budget, best_records
from automl.outer_search import proposals_of, run_designs
from search_spaces.pruner_design import PrunerDesign

Watch = Callable[[int, dict[str, Any]], None]
"""Told the number of a trial, from 0, and what it reported."""


def search_designs(
    workspace: PruningWorkspace, concurrent: int, watch: Watch
) -> list[dict[str, Any]]:
    """Try designs.

    Args:
        workspace: of the study.
        concurrent: how many are tried at once.
        watch: follows the trials.

    Returns:
        The records, in the order in which HyperOpt asked for the designs.

    Raises:
        InputError: no design could be trained.
    """
    config = workspace.config
    designs = config.designs
    tune_config = tune.TuneConfig(
        search_alg=proposals_of(designs.space, designs.trials, config.seed),
        num_samples=designs.trials,
        max_concurrent_trials=concurrent,
    )
    budget = Budget(designs.steps, designs.evaluations)
    trial = tune.with_parameters(score_design, workspace=workspace, budget=budget)
    records = run_designs(workspace, trial, tune_config, {}, "designs", watch)
    best_records(records, 1)
    return records


def refine_design(
    workspace: PruningWorkspace, design: PrunerDesign, watch: Watch
) -> dict[str, Any]:
    """Train the best design on and search it again, with the final budget.

    Raises:
        InputError: it could not be trained on.
    """
    space, final = workspace.config.designs.space, workspace.config.final
    tune_config = tune.TuneConfig(
        search_alg=BasicVariantGenerator(points_to_evaluate=[space.flat(design)]), num_samples=1
    )
    budget = Budget(final.steps, final.evaluations)
    trial = tune.with_parameters(score_design, workspace=workspace, budget=budget)
    dimensions = {name: tune.choice(list(offers)) for name, offers in space.choices().items()}
    records = run_designs(workspace, trial, tune_config, dimensions, "final", watch)
    return best_records(records, 1)[0]
