"""Everything MLflow: a run for the study, one for each design, one for each subnet of the front.

A run is found again by its tags, so a study that goes on logs nothing twice.
"""

import importlib.metadata
import io
import json
import logging
import os
import re
import time
import warnings
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema
from PIL import Image

import search_spaces
import trainables
from automl import serving
from automl.config import StudyConfig
from automl.ledger import Row, has_fewer_heads, heads_share, mlp_share
from search_spaces.subnet import Subnet

RUNNING = RunStatus.to_string(RunStatus.RUNNING)
VERSION = "nas.version"
"""A tag of a subnet's run: which version of the study's registered model it is."""
REQUIREMENTS = (
    "torch",
    "segment-anything",
    "safetensors",
    "pycocotools",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
)
"""What a logged model needs beside the code that travels with it."""
DESIGN_PARAMETERS = (
    "metric",
    "expected_dropped",
    "removable",
    "temperature",
    "cap",
    "width_count",
    "smallest_ratio",
    "spacing",
    "smallest_heads",
    "protected",
    "protect_above",
    "probabilities",
    "space_size",
    "steps",
    "evaluations",
    "failure",
)
FRONT_COLUMNS = (
    "subnet",
    "encoder_params",
    "params",
    "encoder_macs",
    "latency_ms",
    "miou_val",
    "miou_test",
)
# MLflow's Array(double) takes neither whole numbers nor a table where some rows have a box and some
# a point; the model itself checks its prompts.
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.binary, "image"),
            ColSpec(AnyType(), "box", required=False),
            ColSpec(AnyType(), "point", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "mask"),
            ColSpec(DataType.long, "height"),
            ColSpec(DataType.long, "width"),
            ColSpec(DataType.double, "score"),
        ]
    ),
)


def tracking_uri(config: StudyConfig, output: Path) -> str:
    """The store of a study: the configuration's, or one beside the output directory."""
    return config.tracking.uri or f"sqlite:///{output.parent / 'mlflow.db'}"


class Tracking:
    """The MLflow runs of one study.

    Args:
        config: of the study.
        output: its output directory; its name is the study's.
    """

    def __init__(self, config: StudyConfig, output: Path) -> None:
        self._config = config
        self._output = output
        self.uri = tracking_uri(config, output)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        for name in ("mlflow.store.db.utils", "alembic"):  # they announce each table they make
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self.uri)
        self._experiment = self._find_experiment()

    def log_search(self, weights: str, evaluations: int, metrics: dict[str, float]) -> None:
        """Log how far the search of a supernet is, while it runs, in the run of its design.

        Args:
            weights: the supernet, DESIGN@STEPS.
            evaluations: so far; MLflow shows the metrics over it.
            metrics: front size and hypervolume so far.
        """
        run = self._find_or_make("design", weights, f"design {weights}")
        if run.info.status == RUNNING:
            self._log_metrics(run, metrics, evaluations)

    def log_design(self, record: dict[str, Any]) -> None:
        """Log a design that was tried: a run for each number of steps that it was trained for."""
        values = {name: record.get(name) for name in DESIGN_PARAMETERS}
        parameters = {name: value for name, value in values.items() if value is not None}
        metrics = {
            name: record[name]
            for name in ("hypervolume", "front_size", "best_miou_val")
            if record[name] is not None
        }
        weights = f"{record['design']}@{record['steps']}"
        run = self._find_or_make("design", weights, f"design {weights}")
        if run.info.status == RUNNING:
            self._finish(run, parameters, metrics, record["evaluations"])

    def log_subnet(self, row: Row, parent: dict[str, Any], folder: Path) -> None:
        """Log a subnet of the front with its model."""
        smaller = 1 - row["encoder_params"] / parent["encoder_params"]
        parameters = {
            "depth": len(row["layers"]),
            "mlp_ratio_mean": round(mlp_share(row, parent), 4),
            "encoder_params_m": round(row["encoder_params"] / 1e6, 4),
            "smaller_by": round(smaller, 4),
            "design": row["design"],
            "subnet": json.dumps(Subnet.from_dict(row).to_dict()),
        }
        if has_fewer_heads([row]):
            parameters["heads_ratio_mean"] = round(heads_share(row, parent["full_heads"]), 4)
        name = f"{smaller:.0%} smaller, {len(row['layers'])} layers"
        run = self._find_or_make("subnet", row["subnet"], name)
        if run.info.status == RUNNING:
            self._finish(run, parameters, subnet_metrics(row))
        if VERSION not in run.data.tags:
            self._log_model(run.info.run_id, folder)

    def name_models(self, aliases: dict[str, str]) -> None:
        """Give models of the front a name in the registry, such as `models:/STUDY@best`.

        Args:
            aliases: to the key of a subnet that was logged.
        """
        for alias, subnet in aliases.items():
            run = self._find_or_make("subnet", subnet, subnet)
            version = run.data.tags[VERSION]
            self._client.set_registered_model_alias(self._output.name, alias, version)

    def log_study(
        self, front: list[Row], parent: dict[str, Any], hypervolume: float, picture: bytes
    ) -> None:
        """Log the result: the front's figures, as a table and as a picture (PNG)."""
        metrics = {
            "hypervolume": hypervolume,
            "front_size": float(len(front)),
            "best_miou_val": max(row["miou_val"] for row in front),
            "best_miou_test": max(row["miou_test"] for row in front),
            "parent_miou_val": parent["miou_val"],
            "parent_miou_test": parent["miou_test"],
        }
        self.log_metrics(metrics)
        run_id = self._study_run()
        table = pd.DataFrame([{name: row[name] for name in FRONT_COLUMNS} for row in front])
        self._client.log_table(run_id, table, "front.json")
        self._client.log_image(run_id, Image.open(io.BytesIO(picture)), "front.png")
        self._client.set_terminated(run_id)

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Log figures of the study itself."""
        run_id = self._study_run()
        for name, value in metrics.items():
            self._client.log_metric(run_id, name, value)

    def _find_experiment(self) -> str:
        name = self._config.tracking.experiment
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        # Ray's workers change directory, so a relative location would scatter the artifacts.
        location = None
        if self._config.tracking.uri is None:
            location = (self._output.parent / "mlartifacts").as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _study_run(self) -> str:
        values = self._config.model_dump(mode="json")
        parameters = {name: values[name] for name in ("model", "data", "prompts", "seed")}
        run = self._find_or_make("study", self._config.key, self._output.name)
        if not run.data.params:
            self._log_parameters(run, parameters)
        return str(run.info.run_id)

    def _find_or_make(self, kind: str, key: str, name: str) -> Run:
        """The run of (study, kind, key); it is running until all about it was logged."""
        tags = {"nas.kind": kind, "nas.key": key, "nas.output": str(self._output)}
        wanted = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        found = self._client.search_runs([self._experiment], filter_string=wanted)
        if found:
            return found[0]
        if kind != "study":
            tags["mlflow.parentRunId"] = self._study_run()
        return self._client.create_run(self._experiment, tags=tags, run_name=name)

    def _finish(
        self, run: Run, parameters: dict[str, Any], metrics: dict[str, float], step: int = 0
    ) -> None:
        """Log what there is to say about a run, and end it."""
        self._log_parameters(run, parameters)
        self._log_metrics(run, metrics, step)
        self._client.set_terminated(run.info.run_id)

    def _log_parameters(self, run: Run, parameters: dict[str, Any]) -> None:
        logged = [Param(name, str(value)) for name, value in parameters.items()]
        self._client.log_batch(run.info.run_id, params=logged)

    def _log_metrics(self, run: Run, metrics: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        logged = [Metric(name, float(value), now, step) for name, value in metrics.items()]
        self._client.log_batch(run.info.run_id, metrics=logged)

    def _log_model(self, run_id: str, folder: Path) -> None:
        mlflow.set_tracking_uri(self.uri)
        with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
            # The signature is given, so it need not be inferred from an example.
            warnings.filterwarnings("ignore", message=".*An input example was not provided")
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=serving.__file__,
                artifacts={"subnet": str(folder)},
                code_paths=[_package(search_spaces), _package(trainables)],
                pip_requirements=requirements(),
                signature=SIGNATURE,
            )
        # By the client, which says nothing about it on the terminal.
        name = self._output.name
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        version = self._client.create_model_version(
            name, logged.model_uri, run_id, model_id=logged.model_id
        )
        self._client.set_tag(run_id, VERSION, version.version)


NOT_IN_A_NAME = r"[^\w\-./ ]"
"""What MLflow does not take in the name of a metric."""


def subnet_metrics(row: Row) -> dict[str, float]:
    """The metrics of a subnet's run."""
    return {
        "miou_val": row["miou_val"],
        "miou_test": row["miou_test"],
        "latency_ms": row["latency_ms"],
        "encoder_macs_g": row["encoder_macs"] / 1e9,
        **{
            f"{re.sub(NOT_IN_A_NAME, '_', name)}_{split}": value
            for split in ("val", "test")
            for name, value in row.get(f"metrics_{split}") or []
        },
    }


def requirements() -> list[str]:
    """What a logged model needs, in the versions that are installed.

    Without a local version such as `+cpu`: package indexes do not have those.
    """
    versions = {name: importlib.metadata.version(name) for name in REQUIREMENTS}
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]


def _package(module: Any) -> str:
    return str(Path(module.__file__).parent)
