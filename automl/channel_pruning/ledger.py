"""The columns of a pruning study's tables."""

import pyarrow as pa

from automl.ledger import Columns

SCHEMA = pa.schema(
    [
        ("network", pa.string()),
        ("design", pa.string()),
        ("weights", pa.string()),  # DESIGN@STEP: which trained pruner found its channels
        ("split", pa.string()),
        ("tuning_steps", pa.int64()),  # how long it was fine-tuned: the fidelity
        ("share", pa.float64()),  # the budget, of the parent's MACs
        ("allocation", pa.string()),
        ("channels", pa.list_(pa.int64())),  # how many stay, group by group
        ("kept", pa.list_(pa.list_(pa.int64()))),  # which
        ("params", pa.int64()),
        ("macs", pa.int64()),
        ("accuracy_pruned", pa.float64()),  # on val, before any fine-tuning
        ("accuracy_val", pa.float64()),
        ("accuracy_test", pa.float64()),
        ("masked_difference", pa.float64()),  # from the masked network, before fine-tuning
        ("onnx_difference", pa.float64()),  # of the exported logits from the network's own
        ("pictures", pa.int64()),  # of the split
        ("seconds", pa.float64()),
        ("failure", pa.string()),  # why it could not be evaluated; null where it was
    ]
)
NETWORKS = Columns(
    SCHEMA, ("network", "weights", "split", "tuning_steps"), ("share", "allocation", "split")
)
OF_AN_EVALUATION = {"split", "pictures", "seconds", "failure"}
"""Columns that say how a network was evaluated, not what it is."""
FRONT = pa.schema(
    [
        *(field for field in SCHEMA if field.name not in OF_AN_EVALUATION),
        pa.field("latency_ms", pa.float64()),  # of one picture, where the front was measured
        pa.field("parent_latency_ms", pa.float64()),  # of the unpruned network, in the same turns
        pa.field("onnx", pa.string()),
    ]
)
"""Columns of `front.parquet`: the ledger's, with val and test in one row."""
DESIGNS = pa.schema(
    [
        ("design", pa.string()),
        ("prompt", pa.string()),
        ("prompt_size", pa.int64()),
        ("hidden", pa.int64()),
        ("statistics", pa.list_(pa.string())),
        ("recurrence", pa.string()),
        ("allocation", pa.string()),
        ("steps", pa.int64()),
        ("evaluations", pa.int64()),
        ("hypervolume", pa.float64()),
        ("front_size", pa.int64()),
        ("best_accuracy_val", pa.float64()),
        ("seconds", pa.float64()),
        ("failure", pa.string()),  # why it could not be trained or searched; else null
    ]
)
"""Columns of `designs.parquet`: one row for each design, in the order in which they were tried."""
