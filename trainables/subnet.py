"""What it takes to score one subnet: its costs, its latency, its mIoU."""

import time
from typing import Any

from search_spaces.subnet import Subnet
from trainables.costs import latency_ms
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.supernet import Supernet


def score_subnet(
    supernet: Supernet,
    subnet: Subnet,
    examples: EvaluationSet,
    split: str,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Everything about a subnet that a search or a table needs, by column name.

    Args:
        supernet: the weights.
        subnet: which slices of them.
        examples: what it is measured on.
        split: the split that they come from, `val` or `test`.
        batch_size: pictures that the encoder takes at once; None: as many as suit their size.
    """
    start = time.perf_counter()
    metrics = examples.evaluate(supernet, subnet, batch_size)
    return {
        "subnet": subnet.key,
        **subnet.to_dict(),
        **supernet.costs.costs(subnet).to_dict(),
        "latency_ms": latency_ms(supernet.encoder, subnet),
        f"miou_{split}": metrics.miou,
        "miou_oracle": metrics.miou_oracle,
        "split": split,
        "pictures": len(examples),
        "objects": metrics.objects,
        "seconds": time.perf_counter() - start,
    }
