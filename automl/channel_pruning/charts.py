"""The front of a pruning study as a chart."""

from collections.abc import Sequence
from typing import Any

from automl.channel_pruning.tables import parent_name
from automl.charts import HEIGHT, OTHER, TEST, VAL, WIDTH, Chart, whole_chart
from automl.ledger import Row

SPLITS = {"val": "accuracy_val", "test": "accuracy_test"}


def front_chart(front: Sequence[Row], parent: dict[str, Any], tried: Sequence[Row]) -> Chart:
    """Accuracy over MACs: the front on both splits, the unpruned network, and what was tried.

    Args:
        front: rows of `front.parquet`.
        parent: its own figures.
        tried: rows of the final search, on val.
    """
    whole = {**parent, "network": f"{parent_name(parent)}, unpruned", "allocation": "all channels"}
    points = [
        _point(row, parent, f"front, {split}", row[column])
        for row in sorted(front, key=lambda row: row["macs"])
        for split, column in SPLITS.items()
    ]
    parents = [
        _point(whole, parent, f"front, {split}", parent[column]) for split, column in SPLITS.items()
    ]
    searched = [_point(row, parent, "search, val", row["accuracy_val"]) for row in tried]
    domain = {"front, val": VAL, "front, test": TEST, "search, val": OTHER}
    encoding = {
        "x": {
            "field": "mmacs",
            "type": "quantitative",
            "title": "MACs, millions a picture",
            "scale": {"zero": False, "padding": 12},
        },
        "y": {
            "field": "accuracy",
            "type": "quantitative",
            "title": "accuracy",
            "axis": {"format": "%"},
            "scale": {"zero": False, "padding": 12},
        },
        "color": {
            "field": "what",
            "type": "nominal",
            "title": None,
            "scale": {"domain": [*domain], "range": [*domain.values()]},
        },
        "tooltip": [
            {"field": "network"},
            {"field": "what", "title": "of"},
            {"field": "accuracy", "format": ".2%"},
            {"field": "mmacs", "title": "MACs, millions", "format": ".2f"},
            {"field": "share", "title": "of the MACs", "format": ".1%"},
            {"field": "allocation", "title": "cut"},
        ],
    }

    def layer(values: list[dict[str, Any]], **mark: Any) -> Chart:
        return {"data": {"values": values}, "mark": mark, "encoding": encoding}

    return whole_chart(
        {
            "width": WIDTH,
            "height": HEIGHT,
            "layer": [
                layer(searched, type="point", filled=True, size=26, opacity=0.45),
                layer(points, type="line"),
                layer(parents, type="point", filled=True, shape="diamond", size=150, opacity=1),
                layer(points, type="point", filled=True, size=70, opacity=1),
            ],
        }
    )


def _point(row: Row, parent: dict[str, Any], what: str, accuracy: float) -> dict[str, Any]:
    return {
        "network": row["network"],
        "what": what,
        "accuracy": accuracy,
        "mmacs": row["macs"] / 1e6,
        "share": row["macs"] / parent["macs"],
        "allocation": row["allocation"],
    }
