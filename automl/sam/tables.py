"""Results as tables for people."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from automl.amounts import format_amount
from automl.halving import best_first
from automl.ledger import Row
from automl.sam.ledger import has_fewer_heads, heads_share, mlp_share
from search_spaces.addresses import printable
from trainables.data.summary import PrepareSummary
from trainables.sam.objective import quality, quality_name

AP_NAMES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "small",
    "ap_medium": "medium",
    "ap_large": "large",
}


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def splits_table(summary: PrepareSummary) -> Table:
    """How large each split of a prepared data set is."""
    table = _table("Splits", ("split",), ("pictures", "objects"))
    for split, count in summary.splits.items():
        table.add_row(split, f"{count['pictures']:,}", f"{count['objects']:,}")
    return table


def left_out_table(summary: PrepareSummary) -> Table:
    """What preparing left out, by reason."""
    table = _table("Left out", ("what", "why"), ("count",))
    table.add_column("such as", overflow="fold")
    for what, why, count, example in summary.left_out():
        table.add_row(what, why, f"{count:,}", Text(printable(example)))
    return table


def front_table(front: list[Row], parent: dict[str, Any]) -> Table:
    """Every front subnet beside the parent, largest first."""
    full_heads = parent["full_heads"] if has_fewer_heads(front) else None
    names = (
        "enc. params",
        "smaller",
        "enc. MACs",
        "latency",
        *(f"{quality_name(parent)} {split}" for split in ("val", "test")),
    )
    table = _table(
        "The front, beside the pretrained parent",
        ("subnet",),
        (*_shape_names(full_heads), *names),
    )
    table.add_row(
        "parent", *_front_cells(parent, parent, full_heads), style="bold", end_section=True
    )
    for row in sorted(front, key=lambda row: -row["encoder_macs"]):
        table.add_row(row["subnet"], *_front_cells(row, parent, full_heads))
    return table


def _shape_names(full_heads: Sequence[int] | None) -> list[str]:
    """What tables call a subnet's shape; heads only where some subnet has fewer."""
    return ["layers", "mean MLP", *(["mean heads"] if full_heads else [])]


def _shape_cells(
    row: dict[str, Any], parent: dict[str, Any], full_heads: Sequence[int] | None
) -> list[str]:
    heads = [f"{heads_share(row, full_heads):.0%}"] if full_heads else []
    return [str(len(row["layers"])), f"{mlp_share(row, parent):.0%}", *heads]


def _front_cells(
    row: dict[str, Any], parent: dict[str, Any], full_heads: Sequence[int] | None
) -> list[str]:
    return [
        *_shape_cells(row, parent, full_heads),
        f"{row['encoder_params'] / 1e6:.2f} M",
        f"{1 - row['encoder_params'] / parent['encoder_params']:.0%}",
        f"{row['encoder_macs'] / 1e9:.2f} G",
        f"{row['latency_ms']:.1f} ms",
        f"{quality(row, 'val'):.3f}",
        f"{quality(row, 'test'):.3f}",
    ]


def profile_table(profile: dict[str, Any]) -> Table:
    """What subnets cost before any training."""
    full_heads = profile["full_heads"] if has_fewer_heads(profile["subnets"]) else None
    names = ("params", "enc. params", "smaller", "enc. MACs", "latency", "peak memory")
    title = f"{profile['model']} at {profile['image_size']} px, before any training"
    table = _table(title, ("subnet",), (*_shape_names(full_heads), *names))
    parent = profile["subnets"][0]
    for row in profile["subnets"]:
        peak = row["peak_memory"]
        table.add_row(
            row["name"] if row is not parent else "parent, the largest",
            *_shape_cells(row, parent, full_heads),
            f"{row['params']:,}",
            f"{row['encoder_params']:,}",
            f"{row['smaller_by']:.0%}",
            f"{row['encoder_macs'] / 1e9:.2f} G",
            f"{row['latency_ms']:,.1f} ms",
            "–" if peak is None else f"{peak / 2**20:,.0f} MiB",
        )
    return table


def reach_table(profile: dict[str, Any]) -> Table:
    """From the smallest subnet of all designs on offer to the parent."""
    title = f"What the {profile['designs']:,} designs on offer reach"
    table = _table(title, ("cost",), ("least", "of the parent", "parent", "constraint"))
    for cost, found in profile["reachable"].items():
        bounds = _bounds(found["floor"], found["ceiling"])
        verdict = "can be kept" if found["can_be_kept"] else "can't be reached"
        table.add_row(
            cost,
            format_amount(found["least"], ","),
            f"{found['least'] / found['most']:.0%}",
            format_amount(found["most"], ","),
            f"{bounds}: {verdict}" if bounds else "–",
        )
    return table


def _bounds(floor: float | None, ceiling: float | None) -> str:
    """A constraint, in the cost's unit; empty without one."""
    least, most = (None if b is None else format_amount(b, ",") for b in (floor, ceiling))
    if least is None:
        return "" if most is None else f"≤ {most}"
    return f"≥ {least}" if most is None else f"{least} to {most}"


def profile_notes(profile: dict[str, Any]) -> str:
    """What the two tables rest on."""
    row = profile["subnets"][0]
    worth = {
        "measured": "Layer worth was measured.",
        "unneeded": "Drop probabilities are given.",
        "unknown": "Layer worth is not measured yet:\nwhich layers go is not known, the first "
        "that may are shown without; the ranges hold for any.",
    }[profile["worth"]]
    where = f"CPU threads: {row['threads']}" if row["device"] == "cpu" else row["device"]
    return (
        f"{profile['space_size']:,} subnets in the design that is tried first. {worth}\n"
        f"Latency, and memory beyond the weights: of the encoder, one picture, {where}.\n"
        "No figure depends on the weights; fresh ones were measured."
    )


def importance_table(rows: list[dict[str, Any]]) -> Table:
    """What each layer is worth."""
    names = ("mIoU lost", "embedding error", "drop probability")
    table = _table("What each layer is worth", ("layer", "attention"), names)
    for row in rows:
        table.add_row(
            str(row["layer"]),
            row["attention"],
            "–" if row["miou_lost"] is None else f"{row['miou_lost']:.4f}",
            f"{row['embedding_error']:.3f}",
            f"{row['drop_probability']:.2f}",
        )
    return table


def designs_table(rows: list[dict[str, Any]]) -> Table:
    """The designs that were tried, best first."""
    elastic_heads = any((row.get("smallest_heads") or 1.0) < 1 for row in rows)
    table = _table(
        "Designs tried",
        ("design", "score"),
        (
            *("dropped", "removable", "widths", "smallest"),
            *(["fewest heads"] if elastic_heads else []),
            *("subnets", "steps", "front", "hypervolume"),
        ),
    )
    for row in best_first(rows):
        table.add_row(
            row["design"],
            row["metric"],
            f"{row['expected_dropped']:g}",
            str(row["removable"]),
            str(row["width_count"]),
            f"{row['smallest_ratio']:g}",
            *([f"{row['smallest_heads']:g}"] if elastic_heads else []),
            f"{row['space_size']:,.0f}",
            str(row["steps"]),
            str(row["front_size"]),
            "failed" if row.get("failure") else f"{row['hypervolume']:.4f}",
        )
    return table


def evaluation_tables(value: dict[str, Any]) -> list[Table]:
    """One model's figures: mIoU for each kind of prompt, and COCO's mask AP."""
    title = (
        f"{value['model']} on {value['split']}: {value['pictures']:,} pictures at "
        f"{value['image_size']} px,\nat most {value['max_objects']:,} objects in each, of "
        f"{value['min_area']:,} px or more"
    )
    sizes = ("small", "medium", "large")
    means = _table(title, ("prompts",), ("objects", "mIoU", "oracle", "the box as a mask", *sizes))
    for row in value["rows"]:
        means.add_row(
            row["prompts"],
            f"{row['objects']:,}",
            *(_figure(row[name]) for name in ("miou", "miou_oracle", "box_miou")),
            *(f"{_figure(row[f'miou_{size}'])} of {row[f'objects_{size}']:,}" for size in sizes),
        )
    precise = _table("COCO's mask AP of given boxes", ("prompts",), tuple(AP_NAMES.values()))
    for row in value["rows"]:
        if row["prompts"] == "box":
            precise.add_row("box", *(_figure(row[name]) for name in AP_NAMES))
    return [means, precise] if precise.rows else [means]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
