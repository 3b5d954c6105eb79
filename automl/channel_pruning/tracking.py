"""Everything MLflow: a run for the study, one for each design, one for each network of the front.

A run is found again by its tags, so a study that goes on logs nothing twice.
"""

import json
from pathlib import Path
from typing import Any

from automl import views
from automl.channel_pruning.config import PruningConfig
from automl.channel_pruning.tables import front_cells
from automl.ledger import Row
from automl.runs import Runs, is_running

NETWORK = "network"
"""The kind of a network's run: the value of its tag `nas.kind`."""
DESIGN_PARAMETERS = (
    "prompt",
    "prompt_size",
    "hidden",
    "statistics",
    "recurrence",
    "allocation",
    "failure",
)
DESIGN_METRICS = {
    "hypervolume": "hypervolume",
    "front_size": "front_size",
    "best_accuracy_val": "best_accuracy_val",
    "steps": "training_steps",
    "evaluations": "budgets_evaluated",
}
"""A design's figures, and the metrics that they are logged as."""

HISTORY = "best_hypervolume_so_far"
"""The metric of a study's run that shows how its search went."""


class PruningTracking:
    """The MLflow runs of one study.

    Args:
        config: of the study.
        output: its output directory; its name is the study's.
    """

    def __init__(self, config: PruningConfig, output: Path) -> None:
        self._config, self._output = config, output
        self._runs = Runs(config.tracking, output)
        self._client = self._runs.client

    def log_search(self, weights: str, curve: list[tuple[int, dict[str, float]]]) -> None:
        """Log how far the search of a pruner is, while it runs, in the run of its design.

        Args:
            weights: the pruner, DESIGN@STEPS.
            curve: after so many evaluations, front size and hypervolume.
        """
        run = self._runs.find_or_make(views.DESIGN, weights, _design_name(weights), self._study_run)
        if is_running(run):
            self._runs.log_curve(run.info.run_id, curve)

    def log_design(self, record: dict[str, Any]) -> None:
        """Log a design that was tried: a run for each number of steps that it was trained for."""
        values = {name: record.get(name) for name in DESIGN_PARAMETERS}
        parameters = {"study": self._output.name}
        parameters |= {name: value for name, value in values.items() if value is not None}
        metrics = {
            shown: record[name]
            for name, shown in DESIGN_METRICS.items()
            if record.get(name) is not None
        }
        weights = f"{record['design']}@{record['steps']}"
        run = self._runs.find_or_make(views.DESIGN, weights, _design_name(weights), self._study_run)
        if is_running(run):
            self._runs.finish(run, parameters, metrics, record["evaluations"])

    def log_network(self, row: Row, parent: dict[str, Any], folder: Path) -> None:
        """Log a network of the front with its files."""
        name = f"{row['macs'] / parent['macs']:.0%} of the MACs, {row['allocation']}"
        run = self._runs.find_or_make(NETWORK, row["network"], name, self._study_run)
        if not is_running(run):
            return
        run_id = run.info.run_id
        self._client.set_tag(run_id, "network", row["network"])
        self._client.set_tag(run_id, "nas.channels", json.dumps(row["channels"]))
        self._client.log_artifacts(run_id, str(folder), "network")
        parameters = {
            "study": self._output.name,
            **{key: row[key] for key in ("design", "share", "allocation", "tuning_steps")},
        }
        self._runs.finish(run, parameters, network_metrics(row, parent))

    def log_history(self, values: list[float]) -> None:
        """Log once how the study's best hypervolume grew, evaluation by evaluation."""
        run_id = self._study_run()
        if HISTORY not in self._client.get_run(run_id).data.metrics:
            curve = [(n, {HISTORY: value}) for n, value in enumerate(values, start=1)]
            self._runs.log_curve(run_id, curve)

    def log_study(
        self, front: list[Row], parent: dict[str, Any], hypervolume: float, report: Path
    ) -> None:
        """Log the result: the front's figures, as a table and as the page.

        Args:
            front: rows of `front.parquet`.
            parent: its own figures.
            hypervolume: of the front.
            report: the page.
        """
        run_id = self._study_run()
        metrics = {
            "hypervolume": hypervolume,
            "front_size": float(len(front)),
            "best_accuracy_val": max(row["accuracy_val"] for row in front),
            "best_accuracy_test": max(row["accuracy_test"] for row in front),
            "parent_accuracy_val": parent["accuracy_val"],
            "parent_accuracy_test": parent["accuracy_test"],
        }
        self._runs.log_metrics(run_id, metrics)
        cells = front_cells(front, parent)
        columns = {name: [row[i] for row in cells.rows] for i, name in enumerate(cells.columns)}
        self._client.log_table(run_id, columns, "front.json")
        self._client.log_artifact(run_id, str(report))
        self._client.set_terminated(run_id)

    def _study_run(self) -> str:
        values = self._config.without_secrets().model_dump(mode="json")
        parameters = {name: values[name] for name in ("family", "network", "data", "seed")}
        run = self._runs.find_or_make(views.STUDY, self._config.key, self._output.name)
        if not run.data.params:
            self._runs.log_parameters(run, parameters)
        return str(run.info.run_id)


def network_metrics(row: Row, parent: dict[str, Any]) -> dict[str, float]:
    """A network's figures, named and scaled so that they plot well."""
    return {
        "accuracy_val": row["accuracy_val"],
        "accuracy_test": row["accuracy_test"],
        "accuracy_pruned": row["accuracy_pruned"],
        "macs_m": row["macs"] / 1e6,
        "macs_share": row["macs"] / parent["macs"],
        "params_k": row["params"] / 1e3,
        "latency_ms": row["latency_ms"],
        "speed_up": row["parent_latency_ms"] / row["latency_ms"],
    }


def _design_name(weights: str) -> str:
    design, steps = weights.split("@")
    return f"{steps} steps, design {design}"
