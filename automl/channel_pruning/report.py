"""The report of a pruning study: one self-contained page."""

from pathlib import Path
from typing import Any

from automl.channel_pruning.charts import front_chart
from automl.channel_pruning.tables import channels_cells, designs_cells, front_cells, parent_name
from automl.channel_pruning.workspace import PruningWorkspace
from automl.files import write_text
from automl.ledger import Row, evaluated_whole, read_rows
from automl.pages import Part, family_page
from automl.runs import tracking_uri


def write_report(workspace: PruningWorkspace) -> Path:
    """Write `report.html` of a study that has a front; the page needs nothing but itself."""
    root, config = workspace.root, workspace.config
    path = root / "report.html"
    front, designs, evaluated = (
        read_rows(root / f"{name}.parquet") for name in ("front", "designs", "evaluations")
    )
    parent = workspace.read_parent()
    weights = {row["weights"] for row in front}
    tried = [
        row
        for row in evaluated_whole(evaluated)
        if row["weights"] in weights and row["tuning_steps"] == config.search.tuning_steps
    ]
    parts = _parts(front, parent, designs, tried, config.final.tuning_steps)
    text = (
        f"{parent_name(parent)}, {parent['macs'] / 1e6:.1f} M MACs a picture of "
        f"{config.image_size} × {config.image_size} pixels, {len(parent['classes'])} classes. "
        f"Designs of a pruner tried: {len(designs)}; budgets of the best: {len(tried)}; "
        f"networks on the front: {len(front)}."
    )
    uri = tracking_uri(config.tracking, root)
    write_text(family_page(f"Channel pruning: {root.name}", text, parts, uri), path)
    return path


def _parts(
    front: list[Row],
    parent: dict[str, Any],
    designs: list[dict[str, Any]],
    tried: list[Row],
    tuning_steps: int,
) -> list[Part]:
    return [
        Part(
            "The front",
            f"Each network was fine-tuned for {tuning_steps} steps; on test each was measured "
            "once. Diamonds: the unpruned network. Grey: what the search saw, after a short "
            "fine-tuning.",
            chart=front_chart(front, parent, tried),
        ),
        Part(
            "Networks",
            "Latency is the median of one picture, on the machine and in the turns in which all "
            "were measured; beside it how many times as fast as the unpruned network.",
            cells=front_cells(front, parent),
        ),
        Part(
            "Channels kept",
            "Layers that add into one residual stream are one group, named after the first.",
            cells=channels_cells(front, parent),
        ),
        Part(
            "Pruners tried",
            "Hypervolume is the area that a design's front dominates, in the plane of MACs saved "
            "and accuracy on val.",
            cells=designs_cells(designs),
        ),
    ]
