"""The front as a picture, and the report: one self-contained page."""

import io
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from automl.config import StudyConfig
from automl.files import write_text
from automl.ledger import Row, mlp_share, read_rows
from automl.tracking import tracking_uri
from automl.workspace import Workspace


def front_figure(front: list[Row], parent: dict[str, Any]) -> Figure:
    """mIoU on val and test over the encoder's MACs, the parent beside it."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    rows = sorted(front, key=lambda row: row["encoder_macs"])
    macs = [row["encoder_macs"] / 1e9 for row in rows]
    for split, colour, marker in (("val", "#1f77b4", "o"), ("test", "#d95f02", "s")):
        name = f"miou_{split}"
        scores = [row[name] for row in rows]
        axes.plot(macs, scores, marker=marker, color=colour, label=f"front, {split}")
        axes.plot(
            parent["encoder_macs"] / 1e9,
            parent[name],
            marker="*",
            markersize=13,
            linestyle="none",
            color=colour,
            markeredgecolor="white",
            label=f"pretrained parent, {split}",
        )
    axes.set_xlabel("encoder MACs, billions a picture")
    axes.set_ylabel("mIoU")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


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
        workspace.config,
        tracking_uri(workspace.config, root),
    )
    write_text(page, path)
    return path


def report_page(
    study: str,
    front: list[Row],
    parent: dict[str, Any],
    designs: list[dict[str, Any]],
    importance: list[dict[str, Any]],
    config: StudyConfig,
    uri: str,
) -> str:
    """The page as text."""
    svg = io.StringIO()
    front_figure(front, parent).savefig(svg, format="svg", transparent=False)
    drawing = svg.getvalue()
    environment = Environment(
        loader=PackageLoader("automl"), autoescape=select_autoescape(["html", "j2"])
    )
    page: str = environment.get_template("report.html.j2").render(
        front_svg=Markup(drawing[drawing.index("<svg") :]),
        front=sorted(front, key=lambda row: -row["encoder_macs"]),
        parent=parent,
        mlp_share=mlp_share,
        designs=sorted(designs, key=lambda row: -row["hypervolume"]),
        importance=importance,
        config=config.model_dump(mode="json"),
        study=study,
        tracking_uri=uri,
    )
    return page
