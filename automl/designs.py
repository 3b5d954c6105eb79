"""The outer search: Ray Tune with HyperOpt over designs, each with a training and a search inside.

A trial trains the supernet of its design by Ray Train, searches its subnets by Ray Tune, and scores
the design by the hypervolume of the front that was found. Refining a design is the same trial with
more steps and more evaluations; its training goes on from the checkpoint that there is.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.hyperopt import HyperOptSearch

from automl.files import write_json
from automl.search import (
    LocalCallback,
    front_hypervolume,
    front_rows,
    raise_first_error,
    search_subnets,
)
from automl.train import train_design
from automl.workspace import Workspace
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
    ]
)
"""Columns of `designs.parquet`: one row a design, in the order in which they were tried."""


@dataclass(frozen=True)
class Budget:
    """What a design is given: training steps from its start, and subnets evaluated."""

    steps: int
    evaluations: int


def record_path(workspace: Workspace, design: Design, budget: Budget) -> Path:
    """Where a finished trial leaves its result; a trial that is there is not run again."""
    return workspace.work / "designs" / f"{design.key}@{budget.steps}.json"


def score_design(flat: dict[str, Any], workspace: Workspace, budget: Budget) -> None:
    """The trial: report a design's hypervolume to Ray Tune.

    While it runs, it reports `phase` (train or search), `done` of `total`, and the hypervolume so
    far. The last report has `record`, the design's row.
    """
    design = workspace.config.designs.space.design(flat)
    path = record_path(workspace, design, budget)
    if not path.exists():
        record = _train_and_search(design, workspace, budget)
        write_json(record, path)
    record = json.loads(path.read_text())
    tune.report({"phase": "done", "hypervolume": record["hypervolume"], "record": record})


def _train_and_search(design: Design, workspace: Workspace, budget: Budget) -> dict[str, Any]:
    start = time.perf_counter()
    space = workspace.space(design)
    constants = {"phase": "train", "total": budget.steps, "hypervolume": 0.0}
    checkpoint = train_design(workspace, design, budget.steps, [TuneReportCallback()], constants)

    def report(done: int, hypervolume: float) -> None:
        total = budget.evaluations
        tune.report({"phase": "search", "step": done, "total": total, "hypervolume": hypervolume})

    rows = search_subnets(workspace, design, budget.steps, checkpoint, budget.evaluations, report)
    front = front_rows(workspace, rows)
    return {
        "design": design.key,
        **design.to_dict(),
        "space": space.key,
        "space_size": space.size,
        "steps": budget.steps,
        "evaluations": len(rows),
        "hypervolume": front_hypervolume(workspace, rows),
        "front_size": len(front),
        "best_miou_val": max((row["miou_val"] for row in front), default=None),
        "smallest_encoder_params": workspace.costs(space.smallest)["encoder_params"],
        "seconds": time.perf_counter() - start,
        "checkpoint": str(checkpoint.relative_to(workspace.work)),
    }


class _Watcher(LocalCallback):
    """Hands a trial's reports on."""

    def __init__(self, watch: Callable[[int, dict[str, Any]], None]) -> None:
        self._watch = watch
        self._numbers: dict[str, int] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = self._numbers.setdefault(trial.trial_id, len(self._numbers))
        self._watch(number, result)


Watch = Callable[[int, dict[str, Any]], None]
"""Told the number of a trial, from 0, and what it reported."""


def search_designs(workspace: Workspace, watch: Watch) -> list[dict[str, Any]]:
    """Try designs; the records come in the order in which HyperOpt asked for them."""
    settings = workspace.config.designs
    choices = settings.space.choices()
    search = HyperOptSearch(
        space=HyperOptSearch.convert_search_space(
            {name: tune.choice(list(options)) for name, options in choices.items()}
        ),
        metric="hypervolume",
        mode="max",
        # HyperOptSearch takes the points from the last to the first.
        points_to_evaluate=settings.space.first_points()[::-1][-settings.trials :],
        random_state_seed=workspace.config.seed,
    )
    budget = Budget(settings.steps, settings.evaluations)
    tune_config = tune.TuneConfig(
        search_alg=search,
        num_samples=settings.trials,
        max_concurrent_trials=settings.concurrent,
    )
    return _run(workspace, budget, tune_config, {}, "designs", watch)


def refine_design(workspace: Workspace, design: Design, watch: Watch) -> dict[str, Any]:
    """Train a design on and search it again, with the final budget."""
    final = workspace.config.final
    flat = {name: getattr(design, name) for name in workspace.config.designs.space.choices()}
    tune_config = tune.TuneConfig(num_samples=1)
    budget = Budget(final.steps, final.evaluations)
    return _run(workspace, budget, tune_config, flat, "final", watch)[0]


def _run(
    workspace: Workspace,
    budget: Budget,
    tune_config: tune.TuneConfig,
    param_space: dict[str, Any],
    name: str,
    watch: Watch,
) -> list[dict[str, Any]]:
    storage = workspace.work / "tune"
    shutil.rmtree(storage / name, ignore_errors=True)  # of a search that was cut off
    trial = tune.with_parameters(score_design, workspace=workspace, budget=budget)
    results = tune.Tuner(
        # The trial only drives; what computes is reserved by the training and the search inside.
        tune.with_resources(trial, {"memory": 1 << 20}),
        param_space=param_space,
        tune_config=tune_config,
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage),
            callbacks=[_Watcher(watch)],
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=0,
        ),
    ).fit()
    raise_first_error(results)
    shutil.rmtree(storage / name, ignore_errors=True)
    return [result.metrics["record"] for result in results if result.metrics]
