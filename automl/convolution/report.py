"""The report of a search over plans: one self-contained page."""

import json
from pathlib import Path

from automl.convolution.rows import history
from automl.convolution.tables import (
    UNITS,
    hypervolume_chart,
    layer_chart,
    layer_title,
    plans_table,
)
from automl.convolution.workspace import ConvolutionWorkspace
from automl.files import write_text
from automl.ledger import Row, read_rows
from automl.pages import Part, family_page
from automl.runs import tracking_uri

MEMORY = {
    "resident": "resident memory of the process",
    "counted": "tensors that operations made",
    "allocated": "memory that torch allocated on the GPU",
}


def write_report(workspace: ConvolutionWorkspace) -> Path:
    """Write `report.html` of a study that has a front."""
    root, config = workspace.root, workspace.config
    site = json.loads((root / "site.json").read_text())
    front = read_rows(root / "front.parquet")
    tried = read_rows(root / "evaluations.parquet")
    text = (
        f"Measured on {site['device']} with torch {site['torch']}, {config.dtype}, batch "
        f"{config.batch}, CPU threads {config.most_threads} at most, seed {config.seed}. Latency "
        f"is the median of {config.measure.front_repeats} runs, all plans of a table in turn"
        f"{', of CPU time' if config.measure.cpu_time else ''}; "
        "memory is the peak beyond pictures and weights, the output included: "
        f"{MEMORY[front[0]['memory']]}. Bold is what plans are compared with; of the others those "
        f"are shown that nothing beats in both. {UNITS} tuned.json has them for conv2d."
    )
    parts = [_layer_part(*(_of(layer, rows) for rows in (front, tried))) for layer in config.names]
    curves = {layer: history(_of(layer, tried)) for layer in config.names}
    parts.append(
        Part(
            "How the search went",
            "Hypervolume: the area of (times as fast) × (times as little memory) that plans "
            "dominate, against the reference point (0, 0); PyTorch's own alone has 1.",
            hypervolume_chart(curves),
        )
    )
    title = f"{root.name}: plans for {len(config.names)} convolutions"
    page = family_page(title, text, parts, tracking_uri(config.tracking, root))
    path = root / "report.html"
    write_text(page, path)
    return path


def _of(layer: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["layer"] == layer]


def _layer_part(front: list[Row], tried: list[Row]) -> Part:
    failed = sum(bool(row["failure"]) for row in tried)
    text = f"{len(tried)} plans were tried" + (f", {failed} of them failed." if failed else ".")
    return Part(layer_title(front), text, layer_chart(front, tried), plans_table(front))
