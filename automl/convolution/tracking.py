"""What MLflow is told: a run for the study, and one for each convolution."""

from pathlib import Path
from typing import Any

import pandas as pd

from automl.convolution.config import ConvolutionConfig
from automl.convolution.rows import described, is_pytorch, plan_hypervolume, plan_of, shape_of
from automl.convolution.tables import MIB, sizes
from automl.ledger import Row
from automl.runs import Runs, is_running

STUDY, LAYER = "study", "layer"
"""The kinds of runs: the values of their tag `nas.kind`."""
Curve = list[tuple[int, dict[str, float]]]


class ConvolutionTracking:
    """The MLflow runs of one study; a run is found again by its tags.

    Args:
        config: of the study.
        output: its output directory; its name is the study's.
    """

    def __init__(self, config: ConvolutionConfig, output: Path) -> None:
        self._config, self._output = config, output
        self._runs = Runs(config.tracking, output)

    def log_search(self, layer: str, curve: Curve) -> None:
        """Log how far the search of a convolution's plans is, while it runs.

        Args:
            layer: its name.
            curve: after so many evaluations, front size and hypervolume.
        """
        run = self._runs.find_or_make(LAYER, layer, layer, self._study_run)
        if is_running(run):
            self._runs.log_curve(run.info.run_id, curve)

    def log_layer(self, layer: str, curve: Curve, front: list[Row]) -> None:
        """Log a convolution that was searched: its sizes, its best plans, how its search went.

        Args:
            layer: its name.
            curve: of the whole search.
            front: its rows of `front.parquet`.
        """
        run = self._runs.find_or_make(LAYER, layer, layer, self._study_run)
        if not is_running(run):
            return
        self._runs.log_curve(run.info.run_id, self._unlogged(run.info.run_id, curve))
        best = [row for row in front if row["on_front"]]
        fastest = min(best, key=lambda row: row["latency_ms"])
        smallest = min(best, key=lambda row: row["peak_bytes"])
        own = next(row for row in front if is_pytorch(row))
        parameters = {
            "study": self._output.name,
            "convolution": sizes(shape_of(own)),
            "device": own["device"],
            "dtype": own["dtype"],
            "fastest": described(plan_of(fastest)),
            "smallest": described(plan_of(smallest)),
        }
        metrics = {
            "front_hypervolume": plan_hypervolume(front),
            "fastest_latency_ms": fastest["latency_ms"],
            "fastest_peak_mib": fastest["peak_bytes"] / MIB,
            "fastest_speed": fastest["speed"],
            "smallest_latency_ms": smallest["latency_ms"],
            "smallest_peak_mib": smallest["peak_bytes"] / MIB,
            "smallest_memory_share": smallest["memory_share"],
            "pytorch_latency_ms": own["latency_ms"],
            "pytorch_peak_mib": own["peak_bytes"] / MIB,
        }
        self._runs.finish(run, parameters, metrics, curve[-1][0])

    def _unlogged(self, run_id: str, curve: Curve) -> Curve:
        """Without what was logged while the search ran."""
        known = {m.step for m in self._runs.client.get_metric_history(run_id, "hypervolume")}
        return [point for point in curve if point[0] not in known]

    def log_study(self, front: list[Row], tuned: Path) -> None:
        """Log the result: figures over all convolutions, the plans as a table, the tuned table.

        Args:
            front: rows of `front.parquet`.
            tuned: `tuned.json`.
        """
        layers = [
            [row for row in front if row["layer"] == layer]
            for layer in dict.fromkeys(row["layer"] for row in front)
        ]
        count = len(layers)
        metrics = {
            "layers": float(count),
            "mean_hypervolume": sum(map(plan_hypervolume, layers)) / count,
            "mean_fastest_speed": sum(max(r["speed"] for r in rows) for rows in layers) / count,
            "mean_smallest_memory_share": sum(
                min(r["memory_share"] for r in rows) for rows in layers
            )
            / count,
        }
        run_id, client = self._study_run(), self._runs.client
        self._runs.log_metrics(run_id, metrics)
        client.log_table(run_id, _frame(front), "front.json")
        client.log_artifact(run_id, str(tuned))
        client.set_terminated(run_id)

    def _study_run(self) -> str:
        config = self._config
        run = self._runs.find_or_make(STUDY, config.key, self._output.name)
        if not run.data.params:
            parameters: dict[str, Any] = {
                "family": config.family,
                "batch": config.batch,
                "dtype": config.dtype,
                "searcher": config.search.searcher,
                "seed": config.seed,
            }
            self._runs.log_parameters(run, parameters)
        return str(run.info.run_id)


def _frame(front: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "convolution": row["layer"],
            "plan": described(plan_of(row)),
            "latency ms": round(row["latency_ms"], 3),
            "peak MiB": round(row["peak_bytes"] / MIB, 3),
            "× PyTorch's speed": round(row["speed"], 3),
            "of its memory": round(row["memory_share"], 3),
            "on the front": row["on_front"],
        }
        for row in front
    )
