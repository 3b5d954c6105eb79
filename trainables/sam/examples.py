"""Pictures with their prompts, ready to be asked of any subnet."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.data.pictures import Picture
from trainables.data.prompts import (
    DrawnKind,
    PromptKind,
    Prompts,
    as_prompts,
    choose_kind,
    generator,
    one_point,
    tight_box,
)
from trainables.data.table import BoolArray
from trainables.sam.segment_anything_import import ResizeLongestSide

MASKS_AT_ONCE = 32
"""Masks of a picture of a megapixel or less that are held together; of a larger one fewer."""


@dataclass(frozen=True)
class Example:
    """One picture and what is asked about it.

    Args:
        pixels: uint8 [3, h, w], the longer side at the encoder's input size.
        size: height and width of the picture itself, pixels.
        objects: the rows of those that are prompted.
        box_ious: for each object the share of its tight box that it fills: what the box itself,
            taken as a mask, would score.
        prompts: by kind, in the order of `objects`; so many together as are to be decoded at once.
    """

    pixels: Tensor
    size: tuple[int, int]
    objects: list[dict[str, Any]]
    box_ious: list[float]
    prompts: dict[PromptKind, list[Prompts]]


def make_examples(
    pictures: Iterable[Picture],
    kinds: Sequence[PromptKind],
    *,
    image_size: int,
    seed: int,
    max_objects: int,
    min_area: int,
) -> Iterator[Example]:
    """Draw the prompts of each picture, when it is asked for.

    Args:
        pictures: those without an object to prompt are passed over.
        kinds: what is asked with; `mixed` asks each picture with one or the other.
        image_size: side of the encoder's input.
        seed: prompts and, where there are more than `max_objects`, the objects follow from it.
        max_objects: objects prompted in a picture at most.
        min_area: pixels that an object needs to be prompted, at the picture's own resolution.
    """
    resize = ResizeLongestSide(image_size)
    for picture in pictures:
        large = [row for row in picture.objects if row["area"] >= min_area]
        objects = sorted(large, key=lambda row: generator(seed, row["id"]).random())[:max_objects]
        if not objects:
            continue
        chosen = {
            k: choose_kind(k, generator(seed, *(row["id"] for row in objects))) for k in kinds
        }
        prompts: dict[PromptKind, list[Prompts]] = {kind: [] for kind in kinds}
        box_ious: list[float] = []
        height, width = picture.size
        together = min(MASKS_AT_ONCE, max(1, MASKS_AT_ONCE * 2**20 // (height * width)))
        for start in range(0, len(objects), together):
            rows = objects[start : start + together]
            masks = picture.masks(rows)
            box_ious += [_box_iou(mask) for mask in masks]
            for kind in kinds:
                prompts[kind].append(_draw(chosen[kind], rows, masks, resize, seed))
        pixels = torch.from_numpy(resize.apply_image(picture.pixels))
        yield Example(
            pixels.permute(2, 0, 1).contiguous(), picture.size, objects, box_ious, prompts
        )


def _draw(
    kind: DrawnKind,
    objects: Sequence[dict[str, Any]],
    masks: BoolArray,
    resize: ResizeLongestSide,
    seed: int,
) -> Prompts:
    size = masks.shape[1:]
    drawn = []
    for row, mask in zip(objects, masks, strict=True):
        if kind == "box":
            drawn.append(resize.apply_boxes(tight_box(mask)[None], size)[0].astype("float32"))
        else:
            point = one_point(kind, mask, generator(seed, row["id"], 1))
            drawn.append(resize.apply_coords(point[None], size)[0].astype("float32"))
    return as_prompts(kind, drawn)


def _box_iou(mask: BoolArray) -> float:
    x0, y0, x1, y1 = (int(value) for value in tight_box(mask))
    return float(mask.sum() / ((x1 - x0) * (y1 - y0)))
