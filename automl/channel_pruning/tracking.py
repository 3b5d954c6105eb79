"""Everything MLflow: a run for the study, one for each design, one for each network of the front.

A run is found again by its tags, so a study that goes on logs nothing twice.
"""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

from automl.channel_pruning.tables import front_cells
from automl.design_log import DesignLog
from automl.ledger import Row
from automl.runs import is_running

NETWORK = "network"
"""The kind of a network's run: the value of its tag `nas.kind`."""


class PruningTracking(DesignLog):
    """The MLflow runs of one study."""

    STUDY = ("family", "network", "data", "seed")
    PARAMETERS = (
        "prompt",
        "prompt_size",
        "hidden",
        "statistics",
        "recurrence",
        "allocation",
        "failure",
    )
    METRICS = MappingProxyType(
        {
            "hypervolume": "hypervolume",
            "front_size": "front_size",
            "best_accuracy_val": "best_accuracy_val",
            "steps": "training_steps",
            "evaluations": "budgets_evaluated",
        }
    )

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
