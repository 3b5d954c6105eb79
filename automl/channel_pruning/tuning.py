"""The front fine-tuned whole: a trial of Ray Tune for each network, with a training by Ray Train.

A network that is done is on record and is not tuned again; a training that was cut off goes on.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.basic_variant import BasicVariantGenerator

from automl.channel_pruning.train import tune_network
from automl.channel_pruning.workspace import PruningWorkspace
from automl.files import write_json
from automl.ledger import Row
from automl.outer_search import run_designs
from search_spaces.errors import InputError


def tune_trial(flat: dict[str, Any], workspace: PruningWorkspace, rows: dict[str, Row]) -> None:
    """The trial: fine-tune one network; the last report has `record`, with its checkpoint."""
    key = flat["network"]
    path = workspace.work / "networks" / f"{key}.json"
    if not path.exists():
        try:
            checkpoint = tune_network(workspace, rows[key], [TuneReportCallback()])
        except FloatingPointError as error:
            raise InputError(
                f"network {key}: {error}; give a lower tuning.learning_rate, in another directory"
            ) from error
        write_json({"network": key, "checkpoint": str(checkpoint)}, path)
    tune.report({"record": json.loads(path.read_text())})


def tune_front(
    workspace: PruningWorkspace,
    front: Sequence[Row],
    watch: Callable[[int, dict[str, Any]], None],
) -> list[tuple[Row, Path]]:
    """Fine-tune networks whole.

    Args:
        workspace: of the study.
        front: their rows in the ledger.
        watch: told the number of a network, from 0, and what its training reports.

    Returns:
        Each row with the folder of its network's last checkpoint.

    Raises:
        InputError: a loss was not finite, or the cluster has no room.
    """
    rows = {row["network"]: row for row in front}
    tune_config = tune.TuneConfig(
        search_alg=BasicVariantGenerator(
            points_to_evaluate=[{"network": key} for key in rows], max_concurrent=1
        ),
        num_samples=len(rows),
    )
    trial = tune.with_parameters(tune_trial, workspace=workspace, rows=rows)
    dimensions = {"network": tune.choice(list(rows))}
    records = run_designs(workspace, trial, tune_config, dimensions, "front", watch, "network")
    return [(rows[record["network"]], Path(record["checkpoint"])) for record in records]
