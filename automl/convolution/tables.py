"""What a search over plans found, as tables, and as a picture."""

from collections.abc import Sequence
from typing import Any

from automl.cells import Cells
from automl.charts import HEIGHT, OTHER, TEST, VAL, WIDTH, Chart, whole_chart
from automl.convolution.rows import described, is_pytorch, measured, plan_of, shape_of
from automl.ledger import Row
from search_spaces.conv_shape import ConvShape

MIB = 1 << 20
UNITS = "Speed is times PyTorch's own, memory a share of what that needs."


def sizes(shape: ConvShape) -> str:
    """A convolution in a few words."""
    height, width = shape.size
    kernel = "×".join(map(str, shape.kernel))
    text = f"{shape.batch}×{shape.channels}×{height}×{width}, {shape.filters} filters of {kernel}"
    others = {
        "stride": (shape.stride, (1, 1)),
        "padding": (shape.padding, (0, 0)),
        "dilation": (shape.dilation, (1, 1)),
    }
    for name, (pair, usual) in others.items():
        if pair != usual:
            text += f", {name} {pair[0]}" + (f"×{pair[1]}" if pair[1] != pair[0] else "")
    return text + (f", {shape.groups} groups" if shape.groups > 1 else "")


def plans_table(rows: Sequence[Row]) -> Cells:
    """Of one convolution what it is compared with, and the plans of its front, fastest first.

    Args:
        rows: of `front.parquet`.
    """
    baselines = [row for row in rows if is_pytorch(row) or row["is_default"]]
    others = [row for row in rows if row["on_front"] and row not in baselines]
    others.sort(key=lambda row: row["latency_ms"])
    cells = [
        (
            described(plan_of(row)),
            _role(row),
            f"{row['latency_ms']:.2f} ms",
            f"{row['peak_bytes'] / MIB:.2f} MiB",
            f"{row['speed']:.2f}",
            f"{row['memory_share']:.0%}",
        )
        for row in [*baselines, *others]
    ]
    columns = ("plan", "", "latency", "peak memory", "speed", "memory")
    return Cells(columns, cells, names=2, baselines=len(baselines))


def _role(row: Row) -> str:
    roles = ["untuned"] if row["is_default"] and not is_pytorch(row) else []
    return ", ".join(["front"] * row["on_front"] + roles)


def layer_title(rows: Sequence[Row]) -> str:
    """A convolution's name and sizes.

    Args:
        rows: of it.
    """
    return f"{rows[0]['layer']}: {sizes(shape_of(rows[0]))}"


def layer_chart(front: Sequence[Row], tried: Sequence[Row]) -> Chart:
    """Latency and peak memory of one convolution's plans.

    Args:
        front: its rows of `front.parquet`.
        tried: its rows of the ledger.
    """
    again = {row["plan"] for row in front}
    values = [_point(row, "tried") for row in measured(tried) if row["plan"] not in again]
    for row in front:
        own, on_front = is_pytorch(row), row["on_front"]
        kind = "PyTorch's own" if own else "front" if on_front else "measured again"
        values.append(_point(row, kind))
    colours = {
        "front": VAL,
        "PyTorch's own": TEST,
        "measured again": "#6baed6",
        "tried": OTHER,
    }
    shown = [kind for kind in colours if any(value["kind"] == kind for value in values)]
    near = {"zero": False, "padding": 12}
    return whole_chart(
        {
            "width": WIDTH,
            "height": HEIGHT * 0.7,
            "data": {"values": values},
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.9},
            "encoding": {
                "x": {
                    "field": "latency",
                    "type": "quantitative",
                    "title": "latency, ms",
                    "scale": near,
                },
                "y": {
                    "field": "memory",
                    "type": "quantitative",
                    "title": "peak memory, MiB",
                    "scale": near,
                },
                "color": {
                    "field": "kind",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": shown, "range": [colours[kind] for kind in shown]},
                },
                "tooltip": [
                    {"field": "plan"},
                    {"field": "latency", "title": "latency, ms", "format": ".2f"},
                    {"field": "memory", "title": "peak memory, MiB", "format": ".2f"},
                ],
            },
        }
    )


def _point(row: Row, kind: str) -> dict[str, Any]:
    return {
        "plan": described(plan_of(row)),
        "kind": kind,
        "latency": row["latency_ms"],
        "memory": row["peak_bytes"] / MIB,
    }


def hypervolume_chart(curves: dict[str, list[tuple[int, dict[str, float]]]]) -> Chart:
    """Hypervolume over plans that were measured, a line for each convolution.

    Args:
        curves: by a convolution's name after so many evaluations its figures.
    """
    values = [
        {"layer": layer, "plans": count, "hypervolume": found["hypervolume"]}
        for layer, curve in curves.items()
        for count, found in curve
        if found
    ]
    return whole_chart(
        {
            "width": WIDTH,
            "height": 220,
            "data": {"values": values},
            "mark": {"type": "line", "interpolate": "step-after", "point": {"size": 14}},
            "encoding": {
                "x": {
                    "field": "plans",
                    "type": "quantitative",
                    "title": "plans measured",
                    "axis": {"tickMinStep": 1},
                },
                "y": {"field": "hypervolume", "type": "quantitative", "scale": {"zero": False}},
                "color": {"field": "layer", "type": "nominal", "sort": list(curves)},
                "tooltip": [
                    {"field": "layer"},
                    {"field": "plans"},
                    {"field": "hypervolume", "format": ".3f"},
                ],
            },
        }
    )
