"""MLflow told of what the trials of designs report; apart from the trials, which need no MLflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from automl import views
from automl.base_config import BaseConfig
from automl.delivery import Delivery
from automl.runs import Runs, is_running

HISTORY = "best_hypervolume_so_far"
"""The metric of a study's run that shows how its search went."""


class DesignLog:
    """The MLflow runs of a study and of its designs; a run is found again by its tags.

    Args:
        config: of the study.
        output: its output directory; its name is the study's.
    """

    STUDY: ClassVar[Sequence[str]]
    """Keys of the configuration that are parameters of the study's run."""
    PARAMETERS: ClassVar[Sequence[str]]
    """Of a design's record, those that are parameters of its run."""
    METRICS: ClassVar[Mapping[str, str]]
    """A design's figures, and the metrics that they are logged as: unlike parameters these sort."""

    def __init__(self, config: BaseConfig, output: Path) -> None:
        self._config, self._output = config, output
        self._runs = Runs(config.tracking, output)
        self._client = self._runs.client

    def log_search(self, weights: str, curve: list[tuple[int, dict[str, float]]]) -> None:
        """Log how far the search of a design is, while it runs, in the run of the design.

        Args:
            weights: what was trained, DESIGN@STEPS.
            curve: after so many evaluations, front size and hypervolume.
        """
        run = self._runs.find_or_make(views.DESIGN, weights, _design_name(weights), self._study_run)
        if is_running(run):
            self._runs.log_curve(run.info.run_id, curve)

    def log_design(self, record: dict[str, Any]) -> None:
        """Log a design that was tried: a run for each number of steps that it was trained for."""
        values = {name: record.get(name) for name in self.PARAMETERS}
        parameters = {"study": self._output.name}
        parameters |= {name: value for name, value in values.items() if value not in (None, [])}
        metrics = {
            shown: record[name]
            for name, shown in self.METRICS.items()
            if record.get(name) is not None
        }
        weights = f"{record['design']}@{record['steps']}"
        run = self._runs.find_or_make(views.DESIGN, weights, _design_name(weights), self._study_run)
        if is_running(run):
            self._runs.finish(run, parameters, metrics, record["evaluations"])

    def log_growth(self, values: list[float]) -> None:
        """Log once how the study's best hypervolume grew, evaluation by evaluation."""
        run_id = self._study_run()
        if HISTORY not in self._client.get_run(run_id).data.metrics:
            curve = [(n, {HISTORY: value}) for n, value in enumerate(values, start=1)]
            self._runs.log_curve(run_id, curve)

    def _study_run(self) -> str:
        values = self._config.without_secrets().model_dump(mode="json")
        run = self._runs.find_or_make(views.STUDY, self._config.key, self._output.name)
        if not run.data.params:
            self._runs.log_parameters(run, {name: values[name] for name in self.STUDY})
            self._save_views()
        return str(run.info.run_id)

    def _save_views(self) -> None:
        """Save views of the family's runs where there are such."""


def _design_name(weights: str) -> str:
    design, steps = weights.split("@")
    return f"{steps} steps, design {design}"


L = TypeVar("L", bound=DesignLog)


def log_trial(delivery: Delivery[L], report: dict[str, Any]) -> None:
    """Log to MLflow what a design's trial reports, while it searches and when it is done."""
    if report["phase"] == "search":
        weights, curve = report["weights"], report["curve"]
        delivery.send(lambda tracking: tracking.log_search(weights, curve))
    if "record" in report:
        record = report["record"]
        delivery.send(lambda tracking: tracking.log_design(record))
