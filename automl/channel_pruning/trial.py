"""One trial of the outer search: a design's pruner is trained, its budgets searched, and scored.

The pruner is trained by Ray Train, its budgets are searched by Ray Tune, and the hypervolume of the
front that was found is the design's score. The same design with more steps is another trial; its
training goes on from the checkpoint that there is.
"""

from typing import Any

from ray.tune.integration.ray_train import TuneReportCallback

from automl.channel_pruning.front import front_rows
from automl.channel_pruning.search import search_budgets, search_state
from automl.channel_pruning.train import train_pruner
from automl.channel_pruning.workspace import PruningWorkspace, weights_key
from automl.halving import Budget
from automl.trial_reports import (
    SearchReports,
    record_path,
    report_record,
)
from search_spaces.pruner_design import PrunerDesign


def score_design(flat: dict[str, Any], workspace: PruningWorkspace, budget: Budget) -> None:
    """The trial: report a design's hypervolume to Ray Tune.

    It reports what `automl.trial_reports` reads; last of all `record`, the design's row.
    """
    design = workspace.config.designs.space.design(flat)
    report_record(
        record_path(workspace.work, design.key, budget),
        {
            "design": design.key,
            **design.to_dict(),
            "steps": budget.steps,
            "best_accuracy_val": None,
        },
        lambda: _train_and_search(design, workspace, budget),
        "give a lower masks.learning_rate, in another directory",
    )


def _train_and_search(
    design: PrunerDesign, workspace: PruningWorkspace, budget: Budget
) -> dict[str, Any]:
    constants = {"phase": "train", "total": budget.steps, "hypervolume": 0.0}
    checkpoint = train_pruner(workspace, design, budget.steps, [TuneReportCallback()], constants)
    total = min(budget.evaluations, workspace.config.budgets.size)
    reports = SearchReports(weights_key(design, budget.steps), total)
    rows = search_budgets(
        workspace, design, budget.steps, checkpoint, budget.evaluations, reports.add
    )
    reports.tell()
    parent = workspace.parent_macs
    front, state = front_rows(rows, parent), search_state(rows, parent)
    return {
        "evaluations": state.evaluations,
        "hypervolume": state.hypervolume,
        "front_size": state.front_size,
        "best_accuracy_val": max((row["accuracy_val"] for row in front), default=None),
        "checkpoint": str(checkpoint.relative_to(workspace.work)),
    }
