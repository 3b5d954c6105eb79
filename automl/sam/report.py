"""The report: one self-contained page."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automl.files import write_text
from automl.halving import best_first
from automl.ledger import Row, evaluated_whole, read_rows
from automl.pages import render_page
from automl.runs import tracking_uri
from automl.sam.charts import front_explorer, hypervolume_chart, importance_chart, latency_chart
from automl.sam.config import StudyConfig
from automl.sam.ledger import has_fewer_heads, heads_share, mlp_share
from automl.sam.workspace import Workspace
from search_spaces.addresses import shown
from trainables.sam.objective import quality, quality_name


def write_report(workspace: Workspace) -> Path:
    """Write `report.html` of a study that has a front; the page needs nothing but itself."""
    root = workspace.root
    path = root / "report.html"
    page = report_page(
        root.name,
        read_rows(root / "front.parquet"),
        json.loads((root / "parent.json").read_text()),
        read_rows(root / "designs.parquet"),
        workspace.importance(),
        [row for row in read_rows(root / "evaluations.parquet") if row["split"] == "val"],
        read_rows(root / "gallery.parquet"),
        workspace.config,
        tracking_uri(workspace.config.tracking, root),
    )
    write_text(page, path)
    return path


def report_page(
    study: str,
    front: list[Row],
    parent: dict[str, Any],
    designs: list[dict[str, Any]],
    importance: list[dict[str, Any]],
    evaluations: Sequence[Row],
    gallery: Sequence[dict[str, Any]],
    config: StudyConfig,
    uri: str,
) -> str:
    """The page as text.

    Args:
        study: its name.
        front: rows of `front.parquet`.
        parent: its own figures.
        designs: rows of `designs.parquet`.
        importance: rows of `importance.parquet`.
        evaluations: rows of the ledger on val, in the order in which they were made.
        gallery: rows of `gallery.parquet`.
        config: of the study.
        uri: where MLflow keeps its runs.
    """
    on_front = {(row["subnet"], row["weights"]) for row in front}
    final = {weights for _, weights in on_front}
    last = [row for row in evaluations if row["weights"] in final]
    others = [
        row for row in evaluated_whole(last) if (row["subnet"], row["weights"]) not in on_front
    ]
    charts = {
        "front": front_explorer(front, parent, others, gallery[0]["subnet"] if gallery else None),
        "hypervolume": hypervolume_chart(evaluations, parent, config.search.quality_floor),
        "importance": importance_chart(importance),
        "latency": latency_chart(last),
    }
    return render_page(
        "report.html.j2",
        {name: chart for name, chart in charts.items() if chart},
        front=sorted(front, key=lambda row: -row["encoder_macs"]),
        parent=parent,
        mlp_share=mlp_share,
        quality=quality,
        quality_name=quality_name,
        heads_share=heads_share,
        fewer_heads=has_fewer_heads(front),
        elastic_heads=config.designs.space.has_elastic_heads,
        designs=best_first(designs),
        importance=importance,
        gallery=[
            {**row, **{name: _data_uri(row[name]) for name in ("parent", "masks")}}
            for row in gallery
        ],
        evaluated=len(last),
        stopped=sum(bool(row["stopped"]) for row in last),
        config=config.without_secrets().model_dump(mode="json"),
        study=study,
        tracking_uri=shown(uri),
    )


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
