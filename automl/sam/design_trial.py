"""One trial of the outer search: a design is trained and searched with a budget, and scored.

The supernet of the design is trained by Ray Train, its subnets are searched by Ray Tune, and the
hypervolume of the front that was found is the design's score. The same design with a larger budget
is another trial; its training goes on from the checkpoint that there is.
"""

from typing import Any

import pyarrow as pa
from ray.tune.integration.ray_train import TuneReportCallback

from automl.halving import Budget
from automl.sam.front import front_rows
from automl.sam.search import search_state, search_subnets
from automl.sam.train import train_design
from automl.sam.workspace import Workspace
from automl.trial_reports import (
    SearchReports,
    record_path,
    report_record,
)
from search_spaces.design import Design

DESIGNS = pa.schema(
    [
        ("design", pa.string()),
        ("metric", pa.string()),
        ("expected_dropped", pa.float64()),
        ("removable", pa.int64()),
        ("temperature", pa.float64()),  # null where probabilities are given
        ("cap", pa.float64()),
        ("width_count", pa.int64()),
        ("smallest_ratio", pa.float64()),
        ("spacing", pa.string()),
        ("smallest_heads", pa.float64()),
        ("protected", pa.list_(pa.int64())),
        ("protect_above", pa.float64()),
        ("probabilities", pa.list_(pa.float64())),
        ("space", pa.string()),  # key of the space that was drawn up
        ("space_size", pa.float64()),  # distinct subnets
        ("steps", pa.int64()),
        ("evaluations", pa.int64()),
        ("hypervolume", pa.float64()),
        ("front_size", pa.int64()),
        ("best_miou_val", pa.float64()),
        ("smallest_encoder_params", pa.int64()),
        ("seconds", pa.float64()),
        ("failure", pa.string()),  # why it could not be trained or searched; else null
    ]
)
"""Columns of `designs.parquet`: one row for each design and number of steps, in the order in which
they were tried. A design that went on has a row for each rung before the final budget's."""


def score_design(flat: dict[str, Any], workspace: Workspace, budget: Budget) -> None:
    """The trial: report a design's hypervolume to Ray Tune.

    While it runs, it reports `phase` (train or search), `step` of `total`, and of the search front
    size and hypervolume so far, and as `curve` what these were after each evaluation since the last
    report. The last report of all has `record`, the design's row.
    """
    design = workspace.config.designs.space.design(flat)
    space = workspace.space(design)
    about = {
        "design": design.key,
        **design.to_dict(),
        "space": space.key,
        "space_size": space.size,
        "steps": budget.steps,
        "best_miou_val": None,
        "smallest_encoder_params": workspace.costs(space.smallest)["encoder_params"],
    }
    report_record(
        record_path(workspace.work, design.key, budget),
        about,
        lambda: _train_and_search(design, workspace, budget),
        "give a lower training.learning_rate, in another directory",
    )


def _train_and_search(design: Design, workspace: Workspace, budget: Budget) -> dict[str, Any]:
    constants = {"phase": "train", "total": budget.steps, "hypervolume": 0.0}
    checkpoint = train_design(workspace, design, budget.steps, [TuneReportCallback()], constants)
    reports = SearchReports(f"{design.key}@{budget.steps}", budget.evaluations)
    steps, evaluations = budget.steps, budget.evaluations
    rows = search_subnets(workspace, design, steps, checkpoint, evaluations, reports.add)
    reports.tell()
    front, state = front_rows(workspace, rows), search_state(workspace, rows)
    return {
        "evaluations": state.evaluations,
        "hypervolume": state.hypervolume,
        "front_size": state.front_size,
        "best_miou_val": max((row["miou_val"] for row in front), default=None),
        "checkpoint": str(checkpoint.relative_to(workspace.work)),
    }
