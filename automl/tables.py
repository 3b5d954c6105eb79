"""Results as tables for people."""

from typing import Any

from rich.table import Table

from automl.ledger import Row


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def front_table(front: list[Row], parent: dict[str, Any]) -> Table:
    """Every front subnet beside the parent, largest first."""
    table = _table(
        "The front, beside the pretrained parent",
        ("subnet",),
        (
            "layers",
            "mean MLP",
            "enc. params",
            "smaller",
            "enc. MACs",
            "latency",
            "mIoU val",
            "mIoU test",
        ),
    )
    table.add_row("parent", *_front_cells(parent, parent), style="bold", end_section=True)
    for row in sorted(front, key=lambda row: -row["encoder_macs"]):
        table.add_row(row["subnet"], *_front_cells(row, parent))
    return table


def _front_cells(row: dict[str, Any], parent: dict[str, Any]) -> list[str]:
    full = parent["mlp_widths"][0]
    return [
        str(len(row["layers"])),
        f"{sum(row['mlp_widths']) / len(row['mlp_widths']) / full:.0%}",
        f"{row['encoder_params'] / 1e6:.2f} M",
        f"{1 - row['encoder_params'] / parent['encoder_params']:.0%}",
        f"{row['encoder_macs'] / 1e9:.2f} G",
        f"{row['latency_ms']:.1f} ms",
        f"{row['miou_val']:.3f}",
        f"{row['miou_test']:.3f}",
    ]


def profile_table(rows: list[dict[str, Any]]) -> Table:
    """What subnets cost before any training."""
    names = ("layers", "params", "enc. params", "smaller", "enc. MACs", "latency", "subnets")
    table = _table("Before any training", ("design", "subnet"), names)
    for row in rows:
        table.add_row(
            row["design"],
            row["name"],
            str(len(row["layers"])),
            f"{row['params']:,}",
            f"{row['encoder_params']:,}",
            f"{row['smaller_by']:.0%}",
            f"{row['encoder_macs'] / 1e9:.2f} G",
            f"{row['latency_ms']:.1f} ms",
            f"{row['space_size']:,}",
        )
    return table


def importance_table(rows: list[dict[str, Any]]) -> Table:
    """What each layer is worth."""
    names = ("mIoU lost", "embedding error", "drop probability")
    table = _table("What each layer is worth", ("layer", "attention"), names)
    for row in rows:
        table.add_row(
            str(row["layer"]),
            row["attention"],
            f"{row['miou_lost']:.4f}",
            f"{row['embedding_error']:.3f}",
            f"{row['drop_probability']:.2f}",
        )
    return table


def designs_table(rows: list[dict[str, Any]]) -> Table:
    """The designs that were tried, best first."""
    names = ("dropped", "removable", "widths", "smallest", "subnets", "front", "hypervolume")
    table = _table("Designs tried", ("design", "score"), names)
    for row in sorted(rows, key=lambda row: -row["hypervolume"]):
        table.add_row(
            row["design"],
            row["metric"],
            f"{row['expected_dropped']:g}",
            str(row["removable"]),
            str(row["width_count"]),
            f"{row['smallest_ratio']:g}",
            f"{row['space_size']:,.0f}",
            str(row["front_size"]),
            f"{row['hypervolume']:.4f}",
        )
    return table


def evaluation_table(row: dict[str, Any]) -> Table:
    """One model's figures."""
    names = ("pictures", "objects", "mIoU", "oracle", "the box as a mask")
    table = _table("Measured", ("subnet", "split", "prompts"), names)
    table.add_row(
        row["subnet"],
        row["split"],
        row["prompts"],
        str(row["pictures"]),
        str(row["objects"]),
        f"{row['miou']:.3f}",
        f"{row['miou_oracle']:.3f}",
        f"{row['box_miou']:.3f}",
    )
    return table
