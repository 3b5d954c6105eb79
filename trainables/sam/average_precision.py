"""COCO's mask AP of given boxes, by pycocotools' own `COCOeval`.

Each object is prompted once, with its tight box. So the detections are the chosen masks, one an
object, with the IoU that the model predicts as their score, and the ground truth is the objects
that were prompted. The category is known from the prompt: AP is the mean over categories, as COCO
has it, and no detection is of the wrong one. It is not the AP of a detector, which has to find the
objects first: a model loses here by masks that overlap too little, and by ranking those first.

Sizes are COCO's, by the area of the object's mask; `COCOeval` counts an object of exactly 32² or
96² pixels in both neighbouring ranges.
"""

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainables.sam.object_results import ObjectResult


@dataclass(frozen=True)
class AveragePrecision:
    """Mean AP at IoU 0.50:0.05:0.95, at 0.50, at 0.75, and of objects by size.

    None where there is no such object.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None

    def to_dict(self) -> dict[str, float | None]:
        """By name."""
        return asdict(self)


def average_precision(results: Sequence[ObjectResult]) -> AveragePrecision:
    """COCO's figures of results that have their masks; no picture's detections are cut off."""
    most = max(Counter(result.picture for result in results).values(), default=1)
    # pycocotools prints as it goes; standard output is for results.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _coco(results, [result.truth for result in results])
        found = _coco(results, [result.mask for result in results])
        evaluation = COCOeval(truth, found, "segm")
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    precision: NDArray[np.float64] = evaluation.eval["precision"][
        ..., 0
    ]  # [IoU, recall, cat, size]
    thresholds = list(np.round(evaluation.params.iouThrs, 2))
    every, small, medium, large = range(4)
    return AveragePrecision(
        _mean(precision[..., every]),
        _mean(precision[thresholds.index(0.5), ..., every]),
        _mean(precision[thresholds.index(0.75), ..., every]),
        _mean(precision[..., small]),
        _mean(precision[..., medium]),
        _mean(precision[..., large]),
    )


def _coco(results: Sequence[ObjectResult], counts: Sequence[str | None]) -> COCO:
    """A table of annotations with the given masks; ids are from 1, since 0 means none to COCO."""
    names = sorted({result.category for result in results})
    ids = {name: number for number, name in enumerate(names, start=1)}
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": picture, "height": height, "width": width}
            for picture, (height, width) in {r.picture: r.size for r in results}.items()
        ],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [
            _annotation(number, result, ids[result.category], mask)
            for number, (result, mask) in enumerate(zip(results, counts, strict=True), start=1)
        ],
    }
    coco.createIndex()
    return coco


def _annotation(
    number: int, result: ObjectResult, category: int, mask: str | None
) -> dict[str, Any]:
    if mask is None:
        raise ValueError("average precision needs results with their masks")
    rle = {"size": list(result.size), "counts": mask.encode("ascii")}
    return {
        "id": number,
        "image_id": result.picture,
        "category_id": category,
        "segmentation": rle,
        "area": int(coco_mask.area(rle)),
        "score": result.score,
        "iscrowd": 0,
    }


def _mean(precision: NDArray[np.float64]) -> float | None:
    """The mean over what there is; COCO marks the rest with −1."""
    there = precision[precision > -1]
    return float(there.mean()) if there.size else None
