"""A subnet's figures as MLflow and its notes show them: named with their units, and rounded."""

import re
from typing import Any

import pandas as pd

from automl.ledger import Row
from automl.runs import DECIMALS
from automl.sam.ledger import heads_share, mlp_share

HEADINGS = {
    "smaller_by": "smaller by",
    "depth": "layers",
    "mlp_ratio_mean": "mean MLP",
    "heads_ratio_mean": "mean heads",
    "encoder_params_m": "encoder parameters, millions",
    "encoder_macs_g": "encoder MACs, G",
    "latency_ms": "latency, ms",
    "miou_val": "mIoU val",
    "miou_test": "mIoU test",
}
"""Of the front as a table, by the metric of a subnet's run."""
DIGITS = {
    "miou_val": 4,
    "miou_test": 4,
    "latency_ms": 2,
    "encoder_macs_g": 3,
    "encoder_params_m": 3,
    "smaller_by": 3,
    "depth": 0,
    "mlp_ratio_mean": 3,
    "heads_ratio_mean": 3,
}
"""Decimals of a subnet's metrics; `front.parquet` has all of them."""
SHAPE = ("depth", "mlp_ratio_mean", "heads_ratio_mean", "encoder_params_m")
"""The metrics that say what a subnet is, not what it costs or does."""
NOT_IN_A_NAME = r"[^\w\-./ ]"
"""What MLflow does not take in the name of a metric."""


def subnet_metrics(row: Row, parent: dict[str, Any], heads: bool) -> dict[str, float]:
    """The metrics of a subnet's run, each with its unit in its name.

    Args:
        row: of the subnet.
        parent: its own figures.
        heads: whether subnets may have fewer than the parent.
    """
    metrics = {
        "miou_val": row["miou_val"],
        "miou_test": row["miou_test"],
        "latency_ms": row["latency_ms"],
        "encoder_macs_g": row["encoder_macs"] / 1e9,
        "encoder_params_m": row["encoder_params"] / 1e6,
        "smaller_by": 1 - row["encoder_params"] / parent["encoder_params"],
        "depth": len(row["layers"]),
        "mlp_ratio_mean": mlp_share(row, parent),
    }
    if heads:
        metrics["heads_ratio_mean"] = heads_share(row, parent["full_heads"])
    for split in ("val", "test"):
        own = row.get(f"metrics_{split}") or []
        metrics |= {metric_name(name, split): value for name, value in own}
    return metrics


def metric_name(name: str, split: str) -> str:
    """What a metric of an objective of one's own is logged as."""
    return f"{re.sub(NOT_IN_A_NAME, '_', name)}_{split}"


def front_frame(rows: list[Row], parent: dict[str, Any], heads: bool) -> pd.DataFrame:
    """Subnets as a table for people; the parent may be among them."""
    table = []
    for row in rows:
        found = subnet_metrics(row, parent, heads)
        names = [name for name in HEADINGS if name in found]
        names += [name for name in found if name not in HEADINGS]
        figures = {
            HEADINGS.get(name, name): round(found[name], DIGITS.get(name, DECIMALS))
            for name in names
        }
        table.append({"subnet": "parent" if row is parent else row["subnet"], **figures})
    return pd.DataFrame(table)
