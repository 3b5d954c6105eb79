"""One model measured once, in detail: by kind of prompt and by size of object, with COCO's AP."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.data.pictures import Picture
from trainables.data.prompts import PromptKind
from trainables.sam.average_precision import AveragePrecision, average_precision
from trainables.sam.evaluation import no_object
from trainables.sam.examples import make_examples
from trainables.sam.object_results import ObjectResult, object_results, pictures_at_once
from trainables.sam.supernet import Supernet

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, math.inf)}
"""COCO's ranges of an object's area, pixels of the picture itself: from, and below."""


@dataclass(frozen=True)
class Detailed:
    """What was measured.

    Args:
        pictures: that were looked at, those without an object to prompt included.
        rows: one for each kind of prompt, by column name; see `summarise`.
    """

    pictures: int
    rows: list[dict[str, Any]]


def measure_in_detail(
    supernet: Supernet,
    subnet: Subnet,
    pictures: Iterable[Picture],
    kinds: Sequence[PromptKind],
    *,
    seed: int,
    max_objects: int,
    min_area: int,
    batch_size: int | None = None,
) -> Detailed:
    """Measure one subnet; figures and prompts are those of an `EvaluationSet`.

    Pictures are taken as they come, and only a batch of them is in memory at a time.

    Args:
        supernet: the weights.
        subnet: which slices of them.
        pictures: what it is measured on.
        kinds: what is asked with; each picture is encoded once for all of them.
        seed: prompts and, where there are more than `max_objects`, the objects follow from it.
        max_objects: objects prompted in a picture at most.
        min_area: pixels that an object needs to be prompted.
        batch_size: pictures that the encoder takes together; None: as many as suit their size.

    Raises:
        InputError: there is no object to prompt.
    """
    image_size = supernet.encoder.image_size
    looked_at = 0

    def counted() -> Iterable[Picture]:
        nonlocal looked_at
        for picture in pictures:
            looked_at += 1
            yield picture

    examples = make_examples(
        counted(),
        kinds,
        image_size=image_size,
        seed=seed,
        max_objects=max_objects,
        min_area=min_area,
    )
    results = list(
        object_results(
            supernet,
            subnet,
            examples,
            kinds,
            batch_size=batch_size or pictures_at_once(image_size),
            masks_of=[kind for kind in kinds if kind == "box"],
        )
    )
    if not results:
        raise InputError(no_object(looked_at, min_area))
    rows = [summarise([r for r in results if r.kind == kind], kind) for kind in kinds]
    return Detailed(looked_at, rows)


def summarise(results: Sequence[ObjectResult], kind: PromptKind) -> dict[str, Any]:
    """The figures of one kind of prompt.

    `miou` and `miou_oracle` are means over objects, of the mask that is ranked first and of the
    best of three; `box_miou` is what their tight boxes, taken as masks, would score. By size there
    are `miou_SIZE` and the number of objects, `objects_SIZE`. `ap` and its kin are
    `average_precision`'s, for box prompts alone. None stands where there is no such object.

    Args:
        results: at least one; with masks for box prompts.
        kind: what was asked with.
    """
    row: dict[str, Any] = {
        "prompts": kind,
        "objects": len(results),
        "miou": _mean(results, lambda r: r.iou),
        "miou_oracle": _mean(results, lambda r: r.best_iou),
        "box_miou": _mean(results, lambda r: r.box_iou),
    }
    for name, (least, below) in SIZES.items():
        of_size = [r for r in results if least <= r.area < below]
        row[f"miou_{name}"] = _mean(of_size, lambda r: r.iou)
        row[f"objects_{name}"] = len(of_size)
    names = [field.name for field in fields(AveragePrecision)]
    return row | (average_precision(results).to_dict() if kind == "box" else dict.fromkeys(names))


def _mean(results: Sequence[ObjectResult], of: Callable[[ObjectResult], float]) -> float | None:
    return fmean(map(of, results)) if results else None
