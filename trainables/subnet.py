"""What it takes to score one subnet: its costs, its latency, its mIoU."""

import time
from collections.abc import Sequence
from typing import Any

from search_spaces.subnet import Subnet
from trainables.costs import latency_ms
from trainables.early_stopping import (
    RUNGS,
    STOPPING,
    ObjectIous,
    Rival,
    StoppingRule,
    expected_miou,
)
from trainables.sam.evaluation import EvaluationSet, Metrics
from trainables.sam.evaluator import Evaluator
from trainables.sam.objective import Objective, metrics_of, quality
from trainables.sam.supernet import Supernet


def score_subnet(
    supernet: Supernet,
    subnet: Subnet,
    examples: EvaluationSet,
    split: str,
    batch_size: int | None = None,
    objective: Objective | None = None,
) -> dict[str, Any]:
    """Everything about a subnet that a search or a table needs, by column name.

    Args:
        supernet: the weights.
        subnet: which slices of them.
        examples: what it is measured on.
        split: the split that they come from, `val` or `test`.
        batch_size: pictures that the encoder takes at once; None: as many as suit their size.
        objective: whose metrics are wanted beside mIoU.
    """
    start = time.perf_counter()
    results = examples.results(supernet, subnet, batch_size, objective is not None)
    latency = latency_ms(supernet.encoder, subnet)
    row = _row(supernet, subnet, Metrics.of(results), split, len(examples), latency)
    if objective is not None:
        row[f"metrics_{split}"] = metrics_of(objective, subnet, results)
    return {**row, "seconds": time.perf_counter() - start}


def score_in_rungs(
    evaluator: Evaluator,
    subnet: Subnet,
    split: str,
    rivals: Sequence[Rival],
    rule: StoppingRule = STOPPING,
    rungs: Sequence[float] = RUNGS,
    objective: Objective | None = None,
) -> dict[str, Any]:
    """As `score_subnet`, for one of many subnets, and only as far as it has a chance.

    A row has these columns beside those of `score_subnet`:

    - `stopped`: whether the evaluation ended early;
    - `expected`: what is maximised; where the evaluation was stopped what it would likely be;
    - `rung_mious`: the mIoU after each rung;
    - `object_ious`: of a whole evaluation float32 for each object, what makes it a `Rival`.

    Where the evaluation was stopped, `pictures` is less than the split's, and counts those with an
    object to prompt; mIoU and objects are of these. `latency_ms` and `object_ious` are None.

    Args:
        evaluator: has the weights and the pictures.
        subnet: which slices of the weights.
        split: the split that the pictures come from, `val` or `test`.
        rivals: evaluated whole on the same pictures; without them nothing is stopped.
        rule: when a subnet has lost.
        rungs: after which shares of the pictures to ask.
        objective: what is maximised in place of mIoU; nothing can be stopped then, since what is
            compared is IoU, and the evaluator's results must have masks.
    """
    start = time.perf_counter()
    supernet = evaluator.supernet
    macs = supernet.costs.costs(subnet).encoder_macs

    def go_on(so_far: ObjectIous) -> bool:
        return objective is not None or rule.beaten_by(macs, so_far, rivals) is None

    found = evaluator.evaluate(subnet, go_on, rungs)
    winner = None if found.whole else rule.beaten_by(macs, found.ious, rivals)
    if winner is None:
        latency = latency_ms(supernet.encoder, subnet)
        row = _row(supernet, subnet, found.metrics, split, len(evaluator.examples), latency)
        if objective is not None:
            row[f"metrics_{split}"] = metrics_of(objective, subnet, found.results)
        expected, object_ious = quality(row, split), found.ious.ious.tolist()
    else:
        row = _row(supernet, subnet, found.metrics, split, found.ious.pictures, None)
        expected, object_ious = expected_miou(winner, found.ious), None
    return {
        **row,
        "stopped": winner is not None,
        "expected": expected,
        "rung_mious": list(found.rung_mious),
        "object_ious": object_ious,
        "seconds": time.perf_counter() - start,
    }


def _row(
    supernet: Supernet,
    subnet: Subnet,
    metrics: Metrics,
    split: str,
    pictures: int,
    latency: float | None,
) -> dict[str, Any]:
    return {
        "subnet": subnet.key,
        **subnet.to_dict(),
        **supernet.costs.costs(subnet).to_dict(),
        "latency_ms": latency,
        f"miou_{split}": metrics.miou,
        "miou_oracle": metrics.miou_oracle,
        "split": split,
        "pictures": pictures,
        "objects": metrics.objects,
    }
