"""The columns of the ledger of subnets, and what its rows say."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa

from automl.ledger import Columns, Row

SCHEMA = pa.schema(
    [
        ("subnet", pa.string()),
        ("design", pa.string()),
        ("weights", pa.string()),  # DESIGN@STEP: which supernet was evaluated
        ("split", pa.string()),
        ("pictures", pa.int64()),  # how much of the split: the fidelity
        ("stopped", pa.bool_()),  # whether an evaluation ended before all pictures of its split
        ("layers", pa.list_(pa.int64())),
        ("mlp_widths", pa.list_(pa.int64())),
        ("heads", pa.list_(pa.int64())),  # empty where every layer has all of the parent's
        ("encoder_params", pa.int64()),
        ("params", pa.int64()),
        ("encoder_macs", pa.int64()),
        ("latency_ms", pa.float64()),  # measured where it was evaluated
        ("latency_predicted_ms", pa.float64()),  # by the latency table, where there is one
        ("peak_memory", pa.float64()),  # bytes, likewise
        ("miou_val", pa.float64()),
        ("miou_test", pa.float64()),
        ("miou_oracle", pa.float64()),  # best of three masks, on the same split
        ("objects", pa.int64()),
        ("metrics_val", pa.map_(pa.string(), pa.float64())),  # of search.objective, unless mIoU
        ("metrics_test", pa.map_(pa.string(), pa.float64())),
        ("expected", pa.float64()),  # what is maximised; of an ended evaluation what it would be
        ("rung_mious", pa.list_(pa.float64())),  # after each rung of pictures
        ("object_ious", pa.list_(pa.float32())),  # of a whole evaluation, object by object
        ("seconds", pa.float64()),
        ("failure", pa.string()),  # why it could not be evaluated; null where it was
    ]
)
SUBNETS = Columns(SCHEMA, ("subnet", "design", "weights", "split", "pictures"), ("subnet", "split"))


def row_identity(row: Row) -> tuple[Any, ...]:
    """What makes the evaluation of a subnet the same as another."""
    return tuple(row[name] for name in SUBNETS.identity)


def mlp_share(row: Row, parent: Row) -> float:
    """The mean over kept layers of each MLP's share of the parent's."""
    full = dict(zip(parent["layers"], parent["mlp_widths"], strict=True))
    kept = zip(row["layers"], row["mlp_widths"], strict=True)
    return fmean(width / full[layer] for layer, width in kept)


def has_fewer_heads(rows: Iterable[Row]) -> bool:
    """Whether some subnet has fewer attention heads than the parent: then tables show them."""
    return any(row.get("heads") for row in rows)


def heads_share(row: Row, full_heads: Sequence[int]) -> float:
    """The mean over kept layers of each attention's share of the parent's heads.

    Args:
        row: of a subnet.
        full_heads: the parent's heads in each of its layers.
    """
    if not row.get("heads"):
        return 1.0
    kept = zip(row["layers"], row["heads"], strict=True)
    return fmean(heads / full_heads[layer] for layer, heads in kept)
