"""Pictures of the front and of the layers, and the report: one self-contained page."""

import io
import json
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from automl.config import StudyConfig
from automl.files import write_text
from automl.halving import best_first
from automl.ledger import Row, has_fewer_heads, heads_share, mlp_share, read_rows
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


def importance_figure(rows: list[dict[str, Any]]) -> Figure:
    """Layer by layer what its removal alone costs, and the probability that it is dropped.

    Args:
        rows: of `importance.parquet`; what was not measured has no panel.
    """
    panels = {
        "miou_lost": "mIoU lost",
        "embedding_error": "embedding error",
        "drop_probability": "drop probability",
    }
    shown = {name: label for name, label in panels.items() if rows[0][name] is not None}
    figure = Figure(figsize=(7.2, 0.8 + 1.5 * len(shown)), layout="constrained")
    stacked = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    layers = [row["layer"] for row in rows]
    kinds = sorted({row["attention"] for row in rows})
    colours = {kind: f"C{i}" for i, kind in enumerate(kinds)}
    for axes, (name, label) in zip(stacked, shown.items(), strict=True):
        axes.bar(
            layers, [row[name] for row in rows], color=[colours[row["attention"]] for row in rows]
        )
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_ylabel(label)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    stacked[-1].set_ylim(0, 1)
    stacked[-1].set_xticks(layers)
    stacked[-1].set_xlabel("layer")
    figure.align_ylabels()
    named = [Patch(color=colours[kind], label=f"{kind} attention") for kind in kinds]
    figure.legend(handles=named, loc="outside lower center", ncols=len(named))
    return figure


def inline_svg(figure: Figure, name: str) -> Markup:
    """A figure as an SVG element; equal figures give equal text.

    Args:
        figure: the drawing.
        name: keeps the ids of two drawings in one page apart.
    """
    svg = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", transparent=False, metadata={"Date": None})
    drawing = svg.getvalue()
    return Markup(drawing[drawing.index("<svg") :])


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
    environment = Environment(
        loader=PackageLoader("automl"), autoescape=select_autoescape(["html", "j2"])
    )
    page: str = environment.get_template("report.html.j2").render(
        front_svg=inline_svg(front_figure(front, parent), "front"),
        importance_svg=inline_svg(importance_figure(importance), "importance"),
        front=sorted(front, key=lambda row: -row["encoder_macs"]),
        parent=parent,
        mlp_share=mlp_share,
        heads_share=heads_share,
        fewer_heads=has_fewer_heads(front),
        elastic_heads=config.designs.space.has_elastic_heads,
        designs=best_first(designs),
        importance=importance,
        config=config.model_dump(mode="json"),
        study=study,
        tracking_uri=uri,
    )
    return page
