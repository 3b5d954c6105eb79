"""What a pruning study found, as tables for pages and terminals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automl.cells import Cells
from automl.ledger import Row


def parent_name(parent: dict[str, Any]) -> str:
    """The unpruned network, for people."""
    file, _, function = parent["network"].rpartition(":")
    return f"{Path(file).name}:{function}" if file else function


def front_cells(front: Sequence[Row], parent: dict[str, Any]) -> Cells:
    """Every network of a front beside the unpruned one, largest first.

    Args:
        front: rows of `front.parquet`.
        parent: its own figures.
    """
    columns = ["network", "MACs", "of all", "params", "val", "test", "latency", "faster"]
    measured = front[0]["parent_latency_ms"] if front else parent["latency_ms"]
    whole = {**parent, "network": parent_name(parent), "latency_ms": measured}
    own = sorted(front, key=lambda row: -row["macs"])
    rows = [
        [
            row["network"],
            f"{row['macs'] / 1e6:.1f} M",
            f"{row['macs'] / parent['macs']:.1%}",
            f"{row['params'] / 1e3:,.0f} k",
            f"{row['accuracy_val']:.2%}",
            f"{row['accuracy_test']:.2%}",
            f"{row['latency_ms']:.2f} ms",
            f"{measured / row['latency_ms']:.2f} ×",
        ]
        for row in [whole, *own]
    ]
    return Cells(columns, rows, baselines=1)


def channels_cells(front: Sequence[Row], parent: dict[str, Any]) -> Cells:
    """How many channels each group has, in the unpruned network and in each of the front.

    Args:
        front: rows of `front.parquet`.
        parent: its own figures.
    """
    own = sorted(front, key=lambda row: -row["macs"])
    rows = [
        [group, *(str(channels[i]) for channels in (parent["channels"], *_channels(own)))]
        for i, group in enumerate(parent["groups"])
    ]
    return Cells(["group", "unpruned", *(row["network"] for row in own)], rows)


def _channels(rows: Sequence[Row]) -> list[list[int]]:
    return [row["channels"] for row in rows]


def designs_cells(designs: Sequence[dict[str, Any]]) -> Cells:
    """The designs, that of the highest hypervolume first.

    Args:
        designs: rows of `designs.parquet`.
    """
    columns = ["design", "prompt", "statistics", "recurrence", "cut", "hidden"]
    figures = ["steps", "budgets", "hypervolume", "best val"]
    rows = []
    for row in sorted(designs, key=lambda row: -row["hypervolume"]):
        sized = f"{row['prompt']} {row['prompt_size']}" if row["prompt_size"] else row["prompt"]
        best = row["best_accuracy_val"]
        rows.append(
            [
                row["design"],
                sized,
                ", ".join(row["statistics"]) or "none",
                row["recurrence"],
                row["allocation"],
                str(row["hidden"]),
                str(row["steps"]),
                str(row["evaluations"]),
                f"{row['hypervolume']:.4f}",
                "–" if best is None else f"{best:.2%}",
            ]
        )
    return Cells([*columns, *figures], rows, names=5)
