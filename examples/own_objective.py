"""An objective of one's own: how well thin objects are found.

    supersam run --output runs/thin search.objective=examples/own_objective.py:thin_objects

The search then maximises this in place of mIoU, beside the MACs that a subnet saves; constraints
work as ever. `trainables/sam/object_results.py` says what is known of each object. The first metric
is what is maximised; the others are recorded and shown in MLflow.
"""

from collections.abc import Sequence
from statistics import fmean

from search_spaces import Subnet
from trainables.sam.object_results import ObjectResult

THIN = 0.7
"""Thin objects fill less of their box than this; an ellipse along its axes fills 0.785."""


def is_thin(result: ObjectResult) -> bool:
    mask = result.true_mask()
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return bool(mask.sum() / box < THIN)


def thin_objects(subnet: Subnet, results: Sequence[ObjectResult]) -> dict[str, float]:
    thin = [result.iou for result in results if is_thin(result)]
    return {"thin_iou": fmean(thin) if thin else 0.0, "thin_objects": len(thin)}
