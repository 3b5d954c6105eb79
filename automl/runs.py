"""Runs of MLflow that are found again by their tags, so that nothing is logged twice."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus

from automl.base_config import TrackingConfig

DECIMALS = 4
"""Of metrics."""
BATCH = 1000
"""How many metrics MLflow takes at a time."""


def tracking_uri(config: TrackingConfig, output: Path) -> str:
    """The store of a study: the configuration's, or one beside the output directory."""
    return config.uri or f"sqlite:///{output.parent / 'mlflow.db'}"


def _without_login(uri: str) -> str:
    """A server's URI without name and password, which go where MLflow's client looks for them.

    So they are in none of the links that it prints and none of its errors.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def quoted(value: str) -> str:
    """A text in a filter of MLflow's, which knows no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


class Runs:
    """The runs of one output directory.

    Args:
        config: where they are kept.
        output: the output directory.
    """

    def __init__(self, config: TrackingConfig, output: Path) -> None:
        self.uri = _without_login(tracking_uri(config, output))
        # It would print links to runs, which `--json` has no room for.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        for name in ("mlflow.store.db.utils", "alembic"):  # they announce each table they make
            logging.getLogger(name).setLevel(logging.WARNING)
        self._output = output
        self.client = MlflowClient(tracking_uri=self.uri)
        self.experiment = self._find_experiment(config)

    def _find_experiment(self, config: TrackingConfig) -> str:
        known = self.client.get_experiment_by_name(config.experiment)
        if known is not None:
            return str(known.experiment_id)
        # Ray's workers change directory, so a relative location would scatter the artifacts.
        location = None
        if config.uri is None:
            location = (self._output.parent / "mlartifacts").as_uri()
        return str(self.client.create_experiment(config.experiment, artifact_location=location))

    def find(self, kind: str, key: str) -> Run | None:
        """The run of a kind and a key, where there is one."""
        tags = self._tags(kind, key)
        wanted = " and ".join(f"tags.`{tag}` = {quoted(value)}" for tag, value in tags.items())
        found = self.client.search_runs([self.experiment], filter_string=wanted)
        return found[0] if found else None

    def find_or_make(
        self, kind: str, key: str, name: str, parent: Callable[[], str] | None = None
    ) -> Run:
        """The run of a kind and a key; a new one is running until `finish`.

        Args:
            kind: the tag `nas.kind`.
            key: the tag `nas.key`.
            name: of a new run.
            parent: gives the id of the run above a new one.
        """
        found = self.find(kind, key)
        if found is not None:
            return found
        tags = self._tags(kind, key)
        if parent is not None:
            tags["mlflow.parentRunId"] = parent()
        return self.client.create_run(self.experiment, tags=tags, run_name=name)

    def _tags(self, kind: str, key: str) -> dict[str, str]:
        return {"nas.kind": kind, "nas.key": key, "nas.output": str(self._output)}

    def finish(
        self,
        run: Run,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        step: int = 0,
    ) -> None:
        """Log what there is to say about a run, and end it."""
        self.log_parameters(run, parameters)
        self.log_metrics(run.info.run_id, metrics, step)
        self.client.set_terminated(run.info.run_id)

    def log_parameters(self, run: Run, parameters: Mapping[str, Any]) -> None:
        """Log parameters of a run."""
        logged = [Param(name, str(value)) for name, value in parameters.items()]
        self.client.log_batch(run.info.run_id, params=logged)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of a run, rounded."""
        self.log_curve(run_id, [(step, metrics)])

    def log_curve(self, run_id: str, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics of a run at several steps, rounded."""
        now = int(time.time() * 1000)
        logged = [
            Metric(name, round(float(value), DECIMALS), now, step)
            for step, metrics in points
            for name, value in metrics.items()
        ]
        for start in range(0, len(logged), BATCH):
            self.client.log_batch(run_id, metrics=logged[start : start + BATCH])


def is_running(run: Run) -> bool:
    """Whether a run is yet to be finished."""
    return bool(run.info.status == RunStatus.to_string(RunStatus.RUNNING))
