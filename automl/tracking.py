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
from collections.abc import Sequence
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
from automl import serving, views
from automl.config import StudyConfig
from automl.ledger import Row, has_fewer_heads, heads_share, mlp_share
from automl.pareto import hypervolume_history
from search_spaces.subnet import Subnet

RUNNING = RunStatus.to_string(RunStatus.RUNNING)
NOTE = "mlflow.note.content"
"""A tag of a run: what its page says about it, as Markdown."""
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
    "failure",
)
DESIGN_METRICS = {
    "hypervolume": "hypervolume",
    "front_size": "front_size",
    "best_miou_val": "best_miou_val",
    "steps": "training_steps",
    "evaluations": "subnets_evaluated",
    "space_size": "space_size",
}
"""A design's figures, and the metrics that they are logged as: unlike parameters these sort."""
HEADINGS = {
    "smaller_by": "smaller by",
    "depth": "layers",
    "mlp_ratio_mean": "mean MLP",
    "heads_ratio_mean": "mean heads",
    "encoder_params_m": "encoder parameters, millions",
    "encoder_macs_g": "encoder MACs, G",
    "latency_ms": "latency, ms",
    "miou_val": "mIoU val",
    "miou_test": "mIoU test",
}
"""Of the front as a table, by the metric of a subnet's run."""
DIGITS = {
    "miou_val": 4,
    "miou_test": 4,
    "latency_ms": 2,
    "encoder_macs_g": 3,
    "encoder_params_m": 3,
    "smaller_by": 3,
    "depth": 0,
    "mlp_ratio_mean": 3,
    "heads_ratio_mean": 3,
}
"""Decimals of a subnet's metrics; `front.parquet` has all of them."""
SHAPE = ("depth", "mlp_ratio_mean", "heads_ratio_mean", "encoder_params_m")
"""The metrics that say what a subnet is, not what it costs or does."""
GLOSSARY = """\
- `best_hypervolume_so_far`: of any supernet of the study, over the subnets evaluated; its curve is
  under *Model metrics*
- `hypervolume`, `front_size`: of the front; the hypervolume is the area that it dominates in the
  plane of MACs saved (a share of the parent's) and mIoU on val
- `stopped`, `pictures_seen`: shares of the last search's evaluations that ended early, and of
  their pictures that were looked at
- `rank_correlation_N`: of the mIoU after the N-th part of the pictures with that on all
"""
DECIMALS = 4
"""Of any other metric."""
HISTORY = "best_hypervolume_so_far"
"""The metric of a study's run that shows how its search went."""
BATCH = 1000
"""How many metrics MLflow takes at a time."""
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
        self._heads = config.designs.space.has_elastic_heads
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
        run = self._find_or_make(views.DESIGN, weights, _design_name(weights))
        if run.info.status == RUNNING:
            self._log_metrics(run.info.run_id, metrics, evaluations)

    def log_design(self, record: dict[str, Any]) -> None:
        """Log a design that was tried: a run for each number of steps that it was trained for."""
        values = {name: record.get(name) for name in DESIGN_PARAMETERS}
        parameters = {"study": self._output.name}
        parameters |= {name: value for name, value in values.items() if value not in (None, [])}
        metrics = {
            shown: record[name]
            for name, shown in DESIGN_METRICS.items()
            if record.get(name) is not None
        }
        weights = f"{record['design']}@{record['steps']}"
        run = self._find_or_make(views.DESIGN, weights, _design_name(weights))
        if run.info.status == RUNNING:
            self._finish(run, parameters, metrics, record["evaluations"])

    def log_subnet(self, row: Row, parent: dict[str, Any], folder: Path) -> None:
        """Log a subnet of the front with its model."""
        exact = subnet_metrics(row, parent, self._heads)
        metrics = {name: round(value, DIGITS.get(name, DECIMALS)) for name, value in exact.items()}
        # Also as parameters: over those that differ MLflow draws the runs that one compares.
        shape = {name: metrics[name] for name in SHAPE if name in metrics}
        parameters = {"study": self._output.name, "design": row["design"], **shape}
        name = f"{exact['smaller_by']:.0%} smaller, {len(row['layers'])} layers"
        run = self._find_or_make(views.SUBNET, row["subnet"], name)
        if run.info.status == RUNNING:
            tags = {
                "subnet": row["subnet"],
                # Not a parameter: MLflow would draw it as one of the axes on which runs compare.
                "nas.subnet": json.dumps(Subnet.from_dict(row).to_dict()),
                NOTE: subnet_note(row),
            }
            for tag, value in tags.items():
                self._client.set_tag(run.info.run_id, tag, value)
            self._finish(run, parameters, metrics)
        if VERSION not in run.data.tags:
            self._log_model(run.info.run_id, folder)

    def name_models(self, aliases: dict[str, str]) -> None:
        """Give models of the front a name in the registry, such as `models:/STUDY@best`.

        Args:
            aliases: to the key of a subnet that was logged.
        """
        for alias, subnet in aliases.items():
            run = self._find_or_make(views.SUBNET, subnet, subnet)
            version = run.data.tags[VERSION]
            self._client.set_registered_model_alias(self._output.name, alias, version)

    def log_study(
        self,
        front: list[Row],
        parent: dict[str, Any],
        hypervolume: float,
        pictures: dict[str, bytes],
    ) -> None:
        """Log the result: the front's figures, as a table and as pictures.

        Args:
            front: rows of `front.parquet`.
            parent: its own figures.
            hypervolume: of the front.
            pictures: PNG by name.
        """
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
        table = front_frame(front, parent, self._heads)
        self._client.log_table(run_id, table, "front.json")
        for name, picture in pictures.items():
            self._client.log_image(run_id, Image.open(io.BytesIO(picture)), name)
        note = study_note(
            run_id, list(pictures), front_frame([parent, *front], parent, self._heads)
        )
        self._client.set_tag(run_id, NOTE, note)
        own = parent.get("metrics_val")
        best_by = metric_name(own[0][0], "val") if own else "miou_val"
        view = views.unnamed(views.subnets_view(run_id, best_by))
        self._client.set_experiment_tag(self._experiment, f"{views.PREFIX}{run_id}", view)
        self._client.set_terminated(run_id)

    def log_history(self, rows: list[Row], parent_macs: float) -> None:
        """Log once how the study's best hypervolume grew, supernet by supernet.

        Args:
            rows: of the ledger on val, in the order in which they were made.
            parent_macs: the parent's.
        """
        run_id, now = self._study_run(), int(time.time() * 1000)
        if HISTORY in self._client.get_run(run_id).data.metrics:
            return
        values: list[float] = []
        for weights in dict.fromkeys(row["weights"] for row in rows):
            own = [row for row in rows if row["weights"] == weights]
            before = values[-1] if values else 0.0
            values += [max(before, value) for value in hypervolume_history(own, parent_macs)]
        metrics = [
            Metric(HISTORY, round(value, DECIMALS), now, step)
            for step, value in enumerate(values, start=1)
        ]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def subnets_link(self) -> str | None:
        """The page of MLflow that shows this study's subnets; None if they weren't logged."""
        run = self._find(views.STUDY, self._config.key)
        tags = self._client.get_experiment(self._experiment).tags
        if run is None or f"{views.PREFIX}{run.info.run_id}" not in tags:
            return None
        return views.link(self.uri, self._experiment, run.info.run_id)

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Log figures of the study itself."""
        run_id = self._study_run()
        self._log_metrics(run_id, metrics, 0)

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
        run = self._find_or_make(views.STUDY, self._config.key, self._output.name)
        if not run.data.params:
            self._log_parameters(run, parameters)
            self._save_views()
        return str(run.info.run_id)

    def _save_views(self) -> None:
        """Save the views of all studies where the experiment has none."""
        tags = {
            f"{views.PREFIX}designs": views.named("Designs", views.designs_view()),
            f"{views.PREFIX}subnets": views.named("Subnets", views.subnets_view()),
        }
        known = self._client.get_experiment(self._experiment).tags
        for name, value in tags.items():
            if name not in known:
                self._client.set_experiment_tag(self._experiment, name, value)

    def _find_or_make(self, kind: str, key: str, name: str) -> Run:
        """The run of (study, kind, key); it is running until all about it was logged."""
        found = self._find(kind, key)
        if found is not None:
            return found
        tags = self._tags(kind, key)
        if kind != views.STUDY:
            tags["mlflow.parentRunId"] = self._study_run()
        return self._client.create_run(self._experiment, tags=tags, run_name=name)

    def _find(self, kind: str, key: str) -> Run | None:
        tags = self._tags(kind, key)
        wanted = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        found = self._client.search_runs([self._experiment], filter_string=wanted)
        return found[0] if found else None

    def _tags(self, kind: str, key: str) -> dict[str, str]:
        return {"nas.kind": kind, "nas.key": key, "nas.output": str(self._output)}

    def _finish(
        self, run: Run, parameters: dict[str, Any], metrics: dict[str, float], step: int = 0
    ) -> None:
        """Log what there is to say about a run, and end it."""
        self._log_parameters(run, parameters)
        self._log_metrics(run.info.run_id, metrics, step)
        self._client.set_terminated(run.info.run_id)

    def _log_parameters(self, run: Run, parameters: dict[str, Any]) -> None:
        logged = [Param(name, str(value)) for name, value in parameters.items()]
        self._client.log_batch(run.info.run_id, params=logged)

    def _log_metrics(self, run_id: str, metrics: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        logged = [
            Metric(name, round(float(value), DECIMALS), now, step)
            for name, value in metrics.items()
        ]
        self._client.log_batch(run_id, metrics=logged)

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


def subnet_metrics(row: Row, parent: dict[str, Any], heads: bool) -> dict[str, float]:
    """The metrics of a subnet's run, each with its unit in its name.

    Args:
        row: of the subnet.
        parent: its own figures.
        heads: whether subnets may have fewer than the parent.
    """
    metrics = {
        "miou_val": row["miou_val"],
        "miou_test": row["miou_test"],
        "latency_ms": row["latency_ms"],
        "encoder_macs_g": row["encoder_macs"] / 1e9,
        "encoder_params_m": row["encoder_params"] / 1e6,
        "smaller_by": 1 - row["encoder_params"] / parent["encoder_params"],
        "depth": len(row["layers"]),
        "mlp_ratio_mean": mlp_share(row, parent),
    }
    if heads:
        metrics["heads_ratio_mean"] = heads_share(row, parent["full_heads"])
    for split in ("val", "test"):
        own = row.get(f"metrics_{split}") or []
        metrics |= {metric_name(name, split): value for name, value in own}
    return metrics


def metric_name(name: str, split: str) -> str:
    """What a metric of an objective of one's own is logged as."""
    return f"{re.sub(NOT_IN_A_NAME, '_', name)}_{split}"


def front_frame(rows: list[Row], parent: dict[str, Any], heads: bool) -> pd.DataFrame:
    """Subnets as a table for people; the parent may be among them."""
    table = []
    for row in rows:
        found = subnet_metrics(row, parent, heads)
        names = [name for name in HEADINGS if name in found]
        names += [name for name in found if name not in HEADINGS]
        figures = {
            HEADINGS.get(name, name): round(found[name], DIGITS.get(name, DECIMALS))
            for name in names
        }
        table.append({"subnet": "parent" if row is parent else row["subnet"], **figures})
    return pd.DataFrame(table)


def study_note(run_id: str, pictures: Sequence[str], table: pd.DataFrame) -> str:
    """What stands on the page of a study's run, as Markdown: its front, drawn and as a table.

    Args:
        run_id: of the study.
        pictures: its artifacts.
        table: of the front.
    """
    lines = [table.columns, [], *table.itertuples(index=False)]
    rows = [f"| {' | '.join(_cell(value) for value in line)} |" for line in lines]
    rows[1] = "|---" * len(table.columns) + "|"
    images = [f"![{name}](get-artifact?path={name}&run_uuid={run_id})\n" for name in pictures]
    return "\n".join(
        [
            f"The front: {len(table) - 1} subnets beside their parent. *Show more* has it as a "
            "table and as a picture, with the hypervolume over the subnets evaluated.",
            "",
            *rows,
            "",
            *images,
            "",
            GLOSSARY,
        ]
    )


def subnet_note(row: Row) -> str:
    """What stands on the page of a subnet's run, as Markdown: its architecture."""
    shape = {"layer of the parent": row["layers"], "MLP neurons": row["mlp_widths"]}
    if has_fewer_heads([row]):
        shape["heads"] = row["heads"]
    lines = [
        f"| {' | '.join(_cell(value) for value in (name, *values))} |"
        for name, values in shape.items()
    ]
    rule = "|".join(["---"] * (len(row["layers"]) + 1))
    return "\n".join([f"Subnet `{row['subnet']}`", "", lines[0], f"|{rule}|", *lines[1:]])


def _cell(value: Any) -> str:
    """A cell of a table in Markdown; MLflow's pages leave no room beside it."""
    if isinstance(value, float):
        value = f"{value:g}"
    return f"{value}&emsp;"


def _design_name(weights: str) -> str:
    design, steps = weights.split("@")
    return f"{steps} steps, design {design}"


def requirements() -> list[str]:
    """What a logged model needs, in the versions that are installed.

    Without a local version such as `+cpu`: package indexes do not have those.
    """
    versions = {name: importlib.metadata.version(name) for name in REQUIREMENTS}
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]


def _package(module: Any) -> str:
    return str(Path(module.__file__).parent)
