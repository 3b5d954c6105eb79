"""The charts of a study of SAM."""

from collections.abc import Sequence
from typing import Any

from automl.charts import HEIGHT, OTHER, TEST, VAL, WIDTH, Chart, whole_chart
from automl.ledger import Row
from automl.sam.front import hypervolume_history
from automl.sam.ledger import heads_share, mlp_share
from trainables.sam.objective import quality, quality_name


def front_chart(front: list[Row], parent: dict[str, Any]) -> Chart:
    """mIoU over the encoder's MACs, on both splits.

    Args:
        front: rows of `front.parquet`.
        parent: its own figures.
    """
    return whole_chart(_front_panel(front, parent, []))


def front_explorer(
    front: list[Row], parent: dict[str, Any], others: Sequence[Row] = (), chosen: str | None = None
) -> Chart:
    """The front, and below it the layers of the subnet that is clicked on.

    Args:
        front: rows of `front.parquet`.
        parent: its own figures.
        others: evaluated whole on the same supernet, and not on the front.
        chosen: key of the subnet whose layers are shown first; None: the middle one.
    """
    rows = sorted(front, key=lambda row: row["encoder_macs"])
    panel = _front_panel(front, parent, others)
    dots = panel["layer"][-1]
    dots["mark"]["cursor"] = "pointer"
    dots["params"] = [
        {
            "name": "chosen",
            "select": {"type": "point", "fields": ["subnet"], "toggle": False},
            "value": [{"subnet": chosen or rows[len(rows) // 2]["subnet"]}],
        }
    ]
    large = {"condition": {"param": "chosen", "empty": False, "value": 190}, "value": 70}
    dots["encoding"] = {**dots["encoding"], "size": large}
    return whole_chart({"vconcat": [panel, _layers_of_chosen(rows, parent)]})


def _front_panel(front: list[Row], parent: dict[str, Any], others: Sequence[Row]) -> Chart:
    """Layers: what else was tried, if anything; the front's lines; the parent; the front's dots."""
    splits = ("val", "test")
    points = [
        {**_described(row, parent), "split": f"front, {split}", "quality": quality(row, split)}
        for row in sorted(front, key=lambda row: row["encoder_macs"])
        for split in splits
    ]
    described = _described({**parent, "subnet": "parent, pretrained"}, parent)
    whole = [
        {**described, "split": f"front, {split}", "quality": quality(parent, split)}
        for split in splits
    ]
    tried = [
        {**_described(row, parent), "split": "tried, val", "quality": quality(row, "val")}
        for row in others
    ]
    near = {"zero": False, "padding": 12}
    domain = {"front, val": VAL, "front, test": TEST, **({"tried, val": OTHER} if tried else {})}
    encoding = {
        "x": {
            "field": "gmacs",
            "type": "quantitative",
            "title": "encoder MACs, billions a picture",
            "scale": near,
        },
        "y": {
            "field": "quality",
            "type": "quantitative",
            "title": quality_name(parent),
            "scale": near,
        },
        "color": {
            "field": "split",
            "type": "nominal",
            "title": None,
            "legend": {"symbolOpacity": 1},
            "scale": {"domain": list(domain), "range": list(domain.values())},
        },
        "tooltip": _tooltips(points, quality_name(parent)),
    }

    def layer(values: list[dict[str, Any]], **mark: Any) -> Chart:
        return {"data": {"values": values}, "mark": mark, "encoding": encoding}

    cloud = layer(tried, type="point", filled=True, size=26, opacity=0.45)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "layer": [
            *([cloud] if tried else []),
            layer(points, type="line"),
            layer(whole, type="point", filled=True, shape="diamond", size=150, opacity=1),
            layer(points, type="point", filled=True, size=70, opacity=1),
        ],
    }


def _layers_of_chosen(rows: list[Row], parent: dict[str, Any]) -> Chart:
    """The layers of the chosen subnet: how much is left of each MLP, and of the heads."""
    full = dict(zip(parent["layers"], parent["mlp_widths"], strict=True))
    bars = []
    for row in rows:
        widths = dict(zip(row["layers"], row["mlp_widths"], strict=True))
        heads = dict(zip(row["layers"], row.get("heads") or [], strict=False))
        for layer, whole in full.items():
            bars.append(
                {
                    "subnet": row["subnet"],
                    "layer": layer,
                    "share": widths.get(layer, 0) / whole,
                    "what": f"{widths[layer]} of {whole} neurons" if layer in widths else "removed",
                    "heads": f"{heads[layer]}" if layer in heads else "all",
                }
            )
    chosen = {"filter": {"param": "chosen", "empty": False}}
    return {
        "title": {
            "text": "The layers of the subnet that is clicked on: what is left of each MLP",
            "anchor": "start",
            "fontSize": 12,
            "fontWeight": "normal",
        },
        "width": WIDTH,
        "height": 110,
        "data": {"values": bars},
        "transform": [chosen],
        "mark": {"type": "bar", "color": VAL},
        "encoding": {
            "x": {
                "field": "layer",
                "type": "ordinal",
                "title": "layer",
                "axis": {"labelAngle": 0},
                "scale": {"domain": list(full)},
            },
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": None,
                "axis": {"format": "%", "tickCount": 3},
                "scale": {"domain": [0, 1]},
            },
            "tooltip": [
                {"field": name, "title": title}
                for name, title in (
                    ("subnet", "subnet"),
                    ("layer", "layer"),
                    ("what", "MLP"),
                    ("heads", "heads"),
                )
            ],
        },
    }


def hypervolume_chart(rows: Sequence[Row], parent: dict[str, Any], floor: float) -> Chart:
    """Hypervolume over evaluations, a line for each supernet that was searched.

    Args:
        rows: of the ledger on val, in the order in which they were made.
        parent: its own figures.
        floor: `search.quality_floor`.
    """
    points = []
    searched = dict.fromkeys(row["weights"] for row in rows)
    for weights in searched:
        own = [row for row in rows if row["weights"] == weights]
        values = hypervolume_history(own, parent["encoder_macs"], floor)
        for number, value in enumerate(values, start=1):
            points.append({"supernet": weights, "evaluations": number, "hypervolume": value})
    return whole_chart(
        {
            "width": WIDTH,
            "height": 220,
            "data": {"values": points},
            "mark": {"type": "line", "interpolate": "step-after", "point": {"size": 14}},
            "encoding": {
                "x": {
                    "field": "evaluations",
                    "type": "quantitative",
                    "title": "subnets evaluated",
                    "axis": {"tickMinStep": 1},
                },
                "y": {
                    "field": "hypervolume",
                    "type": "quantitative",
                    "scale": {"zero": False},
                },
                "color": {
                    "field": "supernet",
                    "type": "nominal",
                    "title": "design@steps",
                    "sort": list(searched),
                },
                "tooltip": [
                    {"field": "supernet", "title": "design@steps"},
                    {"field": "evaluations"},
                    {"field": "hypervolume", "format": ".4f"},
                ],
            },
        }
    )


def importance_chart(rows: Sequence[dict[str, Any]]) -> Chart:
    """Layer by layer what its removal alone costs, and the probability that it is dropped.

    Args:
        rows: of `importance.parquet`; what was not measured has no panel.
    """
    panels = {
        "miou_lost": "mIoU lost",
        "embedding_error": "embedding error",
        "drop_probability": "drop probability",
    }
    shown = {name: title for name, title in panels.items() if rows[0][name] is not None}
    names = ("layer", "attention", *shown)
    values = [{name: row[name] for name in names} for row in rows]
    tooltip = [{"field": "layer"}, {"field": "attention"}]
    tooltip += [{"field": n, "title": title, "format": ".4f"} for n, title in shown.items()]
    bounded = {"drop_probability": {"scale": {"domain": [0, 1]}}}
    return whole_chart(
        {
            "data": {"values": values},
            "vconcat": [
                {
                    "width": WIDTH,
                    "height": 110,
                    "mark": {"type": "bar"},
                    "encoding": {
                        "x": {
                            "field": "layer",
                            "type": "ordinal",
                            "title": "layer" if name == [*shown][-1] else None,
                            "axis": {"labelAngle": 0},
                        },
                        "y": {
                            "field": name,
                            "type": "quantitative",
                            "title": title,
                            "axis": {"tickCount": 4},
                            **bounded.get(name, {}),
                        },
                        "color": {
                            "field": "attention",
                            "type": "nominal",
                            "title": "attention",
                            "scale": {"range": [VAL, TEST]},
                        },
                        "tooltip": tooltip,
                    },
                }
                for name, title in shown.items()
            ],
        }
    )


def latency_chart(rows: Sequence[Row]) -> Chart | None:
    """Predicted latency beside the measured one; None where none was predicted."""
    known = [row for row in rows if row.get("latency_predicted_ms") and row.get("latency_ms")]
    if not known:
        return None
    names = ("subnet", "latency_predicted_ms", "latency_ms")
    values = [{name: row[name] for name in names} for row in known]
    ends = [f([row[name] for row in known for name in names[1:]]) for f in (min, max)]
    axes: dict[str, Any] = {
        "x": {"field": names[1], "type": "quantitative", "title": "predicted, ms"},
        "y": {"field": names[2], "type": "quantitative", "title": "measured, ms"},
    }
    for axis in axes.values():
        axis["scale"] = {"zero": False}
    diagonal = [{names[1]: end, names[2]: end} for end in ends]
    tooltip = [{"field": name, "format": ".1f"} for name in names[1:]]
    return whole_chart(
        {
            "width": WIDTH,
            "height": 260,
            "layer": [
                {
                    "data": {"values": diagonal},
                    "mark": {"type": "line", "color": OTHER, "strokeDash": [4, 4]},
                    "encoding": axes,
                },
                {
                    "data": {"values": values},
                    "mark": {"type": "point", "filled": True, "size": 50, "color": VAL},
                    "encoding": {**axes, "tooltip": [{"field": "subnet"}, *tooltip]},
                },
            ],
        }
    )


def _described(row: Row, parent: dict[str, Any]) -> dict[str, Any]:
    """What a pointer is told about a subnet."""
    told = {
        "subnet": row["subnet"],
        "gmacs": row["encoder_macs"] / 1e9,
        "layers": len(row["layers"]),
        "mean_mlp": mlp_share(row, parent),
        "encoder_params": f"{row['encoder_params'] / 1e6:.2f} M",
        "smaller": 1 - row["encoder_params"] / parent["encoder_params"],
        "latency_ms": row["latency_ms"],
    }
    if row.get("heads"):
        told["mean_heads"] = heads_share(row, parent["full_heads"])
    return told


def _tooltips(points: Sequence[dict[str, Any]], title: str) -> list[dict[str, str]]:
    heads = [{"field": "mean_heads", "title": "mean heads", "format": ".0%"}]
    return [
        {"field": "subnet"},
        {"field": "split"},
        {"field": "quality", "title": title, "format": ".3f"},
        {"field": "layers"},
        {"field": "mean_mlp", "title": "mean MLP", "format": ".0%"},
        *(heads if any("mean_heads" in point for point in points) else []),
        {"field": "encoder_params", "title": "encoder parameters"},
        {"field": "smaller", "title": "smaller by", "format": ".0%"},
        {"field": "gmacs", "title": "MACs, billions", "format": ".2f"},
        {"field": "latency_ms", "title": "latency, ms", "format": ".1f"},
    ]
