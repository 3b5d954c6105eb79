"""Everything MLflow: a run for the study, one for each design, one for each subnet of the front.

A run is found again by its tags, so a study that goes on logs nothing twice.
"""

import io
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from automl import views
from automl.design_log import DesignLog
from automl.ledger import Row
from automl.runs import DECIMALS, is_running
from automl.sam.config import StudyConfig
from automl.sam.front import hypervolume_history
from automl.sam.logged_model import log_model
from automl.sam.notes import study_note, subnet_note
from automl.sam.subnet_figures import DIGITS, SHAPE, front_frame, metric_name, subnet_metrics
from search_spaces.addresses import shown
from search_spaces.subnet import Subnet

NOTE = "mlflow.note.content"
"""A tag of a run: what its page says about it, as Markdown."""
VERSION = "nas.version"
"""A tag of a subnet's run: which version of the study's registered model it is."""


class Tracking(DesignLog):
    """The MLflow runs of one study."""

    STUDY = ("model", "data", "prompts", "seed")
    PARAMETERS = (
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
    METRICS = MappingProxyType(
        {
            "hypervolume": "hypervolume",
            "front_size": "front_size",
            "best_miou_val": "best_miou_val",
            "steps": "training_steps",
            "evaluations": "subnets_evaluated",
            "space_size": "space_size",
        }
    )

    def __init__(self, config: StudyConfig, output: Path) -> None:
        super().__init__(config, output)
        self._heads = config.designs.space.has_elastic_heads
        self._experiment = self._runs.experiment

    def log_subnet(self, row: Row, parent: dict[str, Any], folder: Path) -> None:
        """Log a subnet of the front with its model."""
        exact = subnet_metrics(row, parent, self._heads)
        metrics = {name: round(value, DIGITS.get(name, DECIMALS)) for name, value in exact.items()}
        # Also as parameters: over those that differ MLflow draws the runs that one compares.
        shape = {name: metrics[name] for name in SHAPE if name in metrics}
        parameters = {"study": self._output.name, "design": row["design"], **shape}
        name = f"{exact['smaller_by']:.0%} smaller, {len(row['layers'])} layers"
        run = self._runs.find_or_make(views.SUBNET, row["subnet"], name, self._study_run)
        if is_running(run):
            tags = {
                "subnet": row["subnet"],
                # Not a parameter: MLflow would draw it as one of the axes on which runs compare.
                "nas.subnet": json.dumps(Subnet.from_dict(row).to_dict()),
                NOTE: subnet_note(row),
            }
            for tag, value in tags.items():
                self._client.set_tag(run.info.run_id, tag, value)
            self._runs.finish(run, parameters, metrics)
        if VERSION not in run.data.tags:
            version = log_model(self._runs, run.info.run_id, folder, self._output.name)
            self._client.set_tag(run.info.run_id, VERSION, version)

    def name_models(self, aliases: dict[str, str]) -> None:
        """Give models of the front a name in the registry, such as `models:/STUDY@best`.

        Args:
            aliases: to the key of a subnet that was logged.
        """
        for alias, subnet in aliases.items():
            run = self._runs.find_or_make(views.SUBNET, subnet, subnet, self._study_run)
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

    def log_history(self, rows: list[Row], parent_macs: float, floor: float) -> None:
        """Log once how the study's best hypervolume grew, supernet by supernet.

        Args:
            rows: of the ledger on val, in the order in which they were made.
            parent_macs: the parent's.
            floor: `search.quality_floor`.
        """
        values: list[float] = []
        for weights in dict.fromkeys(row["weights"] for row in rows):
            own = [row for row in rows if row["weights"] == weights]
            before = values[-1] if values else 0.0
            history = hypervolume_history(own, parent_macs, floor)
            values += [max(before, value) for value in history]
        self.log_growth(values)

    def subnets_link(self) -> str | None:
        """The page of MLflow that shows this study's subnets; None if they weren't logged."""
        run = self._runs.find(views.STUDY, self._config.key)
        tags = self._client.get_experiment(self._experiment).tags
        if run is None or f"{views.PREFIX}{run.info.run_id}" not in tags:
            return None
        return views.link(shown(self._runs.uri), self._experiment, run.info.run_id)

    def log_metrics(self, metrics: dict[str, float]) -> None:
        """Log figures of the study itself."""
        run_id = self._study_run()
        self._runs.log_metrics(run_id, metrics)

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
