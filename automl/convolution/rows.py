"""Rows of plans that were measured, and what follows from them: fronts and hypervolume."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from automl.ledger import Columns, Row
from automl.pareto import front_of, hypervolume
from search_spaces.conv_plan import PYTORCH, ConvPlan
from search_spaces.conv_shape import ConvShape

PAIR = pa.list_(pa.int64())
SHAPE = pa.struct(
    [
        *((name, pa.int64()) for name in ("batch", "channels")),
        ("size", PAIR),
        ("filters", pa.int64()),
        *((name, PAIR) for name in ("kernel", "stride", "padding", "dilation")),
        ("groups", pa.int64()),
    ]
)
TILES = pa.struct(
    [
        *((name, pa.int64()) for name in ("filters", "windows", "depth", "warps", "stages")),
        ("precision", pa.string()),
    ]
)
SETTINGS = pa.struct(
    [
        *((name, pa.string()) for name in ("method", "layout", "slices")),
        *((name, pa.int64()) for name in ("block_kib", "threads")),
        ("tiles", TILES),
    ]
)
SCHEMA = pa.schema(
    [
        ("layer", pa.string()),
        ("shape", SHAPE),
        ("device", pa.string()),
        ("dtype", pa.string()),
        ("plan", pa.string()),  # its key
        ("settings", SETTINGS),
        ("latency_ms", pa.float64()),
        ("peak_bytes", pa.int64()),  # beyond pictures and weights, the output included
        ("memory", pa.string()),  # resident, counted or allocated: how that was measured
        ("error", pa.float64()),  # greatest difference from PyTorch's, over its largest number
        ("seconds", pa.float64()),  # that the evaluation took
        ("failure", pa.string()),  # why it could not be measured; null where it was
    ]
)
PLANS = Columns(SCHEMA, ("layer", "device", "dtype", "plan"), ("plan", "device"))
FRONT = pa.schema(
    [
        *(field for field in SCHEMA if field.name not in ("seconds", "failure")),
        ("is_default", pa.bool_()),  # that of a shape nobody has tuned
        ("on_front", pa.bool_()),
        ("speed", pa.float64()),  # times PyTorch's own
        ("memory_share", pa.float64()),  # of what PyTorch's own needs
    ]
)
"""Columns of `front.parquet`: plans of the front and what they are compared with, measured in
turn."""


def plan_of(row: Row) -> ConvPlan:
    """The plan of a row."""
    return ConvPlan.from_dict(row["settings"])


def shape_of(row: Row) -> ConvShape:
    """The convolution of a row."""
    return ConvShape.from_dict(row["shape"])


def described(plan: ConvPlan) -> str:
    """A plan in a few words."""
    if plan.method == "torch":
        return "PyTorch's own"
    if plan.method == "slices":
        block = f"{plan.block_kib} KiB" if plan.block_kib else "all at once"
        threads = f", {plan.threads} thread{'s' * (plan.threads > 1)}" if plan.threads else ""
        return f"{plan.layout}, {plan.slices}, {block}{threads}"
    tiles = plan.tiles
    return (
        f"{plan.layout}, tiles {tiles.filters}×{tiles.windows}×{tiles.depth}, {tiles.warps} warps, "
        f"{tiles.stages} stages, {tiles.precision}"
    )


def is_pytorch(row: Row) -> bool:
    """Whether a row is that of PyTorch's own convolution."""
    return bool(row["plan"] == PYTORCH.key)


def measured(rows: Iterable[Row]) -> list[Row]:
    """Without those that failed."""
    return [row for row in rows if not row.get("failure")]


def points(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The two objectives of each row, both to be maximised: PyTorch's time and memory over its own.

    Args:
        rows: of one convolution on one device, PyTorch's own among them.
    """
    own = next(row for row in rows if is_pytorch(row))
    return [
        (own["latency_ms"] / row["latency_ms"], own["peak_bytes"] / row["peak_bytes"])
        for row in rows
    ]


def front_rows(rows: Iterable[Row]) -> list[Row]:
    """The non-dominated plans, fastest first; PyTorch's own may be among them."""
    good = measured(rows)
    return front_of(good, points(good))


def plan_hypervolume(rows: Iterable[Row]) -> float:
    """The area of (times as fast) × (times as little memory) that plans dominate.

    Against the reference point (0, 0), in units of PyTorch's own, which alone has 1.
    """
    good = measured(rows)
    return hypervolume(points(good))


def history(rows: Sequence[Row]) -> list[tuple[int, dict[str, float]]]:
    """After how many evaluations how large hypervolume and front were, from PyTorch's own on.

    Args:
        rows: of one convolution, in the order in which they were made.
    """
    first = next((n for n, row in enumerate(rows, start=1) if is_pytorch(row)), len(rows) + 1)
    return [(count, state(rows[:count])) for count in range(first, len(rows) + 1)]


def state(rows: Sequence[Row]) -> dict[str, float]:
    """How large hypervolume and front are; nothing as long as PyTorch's own was not measured."""
    if not any(is_pytorch(row) for row in measured(rows)):
        return {}
    return {"hypervolume": plan_hypervolume(rows), "front_size": len(front_rows(rows))}


def plan_row(layer: str, shape: ConvShape, plan: ConvPlan, device: str, dtype: str) -> Row:
    """The columns of a row that are known before the plan is measured."""
    known: dict[str, Any] = {"layer": layer, "shape": shape.to_dict(), "device": device}
    return {**known, "dtype": dtype, "plan": plan.key, "settings": plan.to_dict()}
