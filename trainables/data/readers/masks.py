"""Masks as the readers hand them over: COCO's run lengths, checked where they come from outside."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from trainables.data.reader import EMPTY, MASK_SIZE, OUTSIDE

Rle = dict[str, Any]
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.int8)
FARTHEST = 16
"""A polygon's corner may lie this many sides away: rasterising walks every pixel up to it."""


class BrokenMask(ValueError):
    """A mask that makes no sense. One line says why."""


class AnotherSize(BrokenMask):
    """A mask that is not of its picture's size."""

    reason = MASK_SIZE


class NoMask(Exception):
    """A mask that is in order but covers no pixel of the picture; `reason` goes into `dropped`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def rle_of(mask: NDArray[Any]) -> Rle:
    """The run lengths of a mask [H, W]; what is not 0 belongs to it."""
    rle: Rle = coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))
    return rle


def masks_by_value(values: NDArray[np.integer[Any]]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Each value of a map [H, W] but 0, ascending, with its mask [H, W]."""
    values = np.asfortranarray(values)  # as COCO runs: once, and not for every mask
    for value in np.unique(values):
        if value != 0:
            yield int(value), values == value


def components(mask: NDArray[Any]) -> NDArray[np.int64]:
    """Number the connected parts of a mask [H, W] from 1; pixels that touch at a corner connect."""
    numbers, _ = ndimage.label(mask != 0, structure=EIGHT_NEIGHBOURS)
    return np.asarray(numbers, dtype=np.int64)


def annotated_rle(segmentation: Any, height: int, width: int) -> Rle:
    """The mask of a COCO annotation: polygons, plain run lengths, or compressed ones.

    Raises:
        BrokenMask: it can't be understood.
        AnotherSize: its run lengths are those of a picture of another size.
        NoMask: it covers no pixel, or lies outside the picture.
    """
    if isinstance(segmentation, dict):
        rle = _from_run_lengths(segmentation, height, width)
    elif isinstance(segmentation, list):
        rle = _from_polygons(segmentation, height, width)
    else:
        raise BrokenMask("its segmentation is neither polygons nor run lengths")
    if not coco_mask.area(rle):
        raise NoMask(EMPTY)
    return rle


def _from_run_lengths(segmentation: dict[str, Any], height: int, width: int) -> Rle:
    counts, size, pixels = segmentation.get("counts"), segmentation.get("size"), height * width
    if size != [height, width]:
        raise AnotherSize(f"its run lengths have size {size}, its picture {[height, width]}")
    if isinstance(counts, str):
        try:
            encoded = counts.encode("ascii")
        except UnicodeEncodeError as error:
            raise BrokenMask("its run lengths hold characters that are none of COCO's") from error
        check_compressed(encoded, pixels)
        return {"size": [height, width], "counts": encoded}
    if not isinstance(counts, list) or not all(type(run) is int for run in counts):
        raise BrokenMask("its run lengths are neither a text nor whole numbers")
    if any(not 0 <= run <= pixels for run in counts):
        raise BrokenMask(f"a run length is not between 0 and its {pixels} pixels")
    _check_sum(np.asarray(counts, dtype=np.int64), pixels)
    sound = {"size": [height, width], "counts": counts}
    rle: Rle = coco_mask.frPyObjects(sound, height, width)
    return rle


def check_compressed(counts: bytes, pixels: int) -> None:
    """Refuse a compressed text that does not describe a mask of so many pixels.

    pycocotools does not check: what a sum too small leaves out of a decoded mask is undefined.

    Raises:
        BrokenMask: it does not.
    """
    runs = decompressed(counts)
    if runs.min() < 0 or runs.max() > pixels:
        raise BrokenMask(f"a run length is not between 0 and its {pixels} pixels")
    _check_sum(runs, pixels)


def _check_sum(runs: NDArray[np.int64], pixels: int) -> None:
    if runs.sum() != pixels:
        raise BrokenMask(f"its run lengths sum to {runs.sum()}, not to {pixels} pixels")


def decompressed(counts: bytes) -> NDArray[np.int64]:
    """The run lengths that COCO's compressed text stands for.

    Each number is written in groups of five bits, lowest first, a character each (48 + bits, 32
    more if another group follows); the last group's highest bit is the sign. From the fourth
    number on it is the difference to the number two before.

    Raises:
        BrokenMask: it is no such text.
    """
    codes = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise BrokenMask("its run lengths are no text of COCO's")
    last = (codes & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    if place.max() > 11:
        raise BrokenMask("its run lengths hold a number too large")
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[last] & 16) != 0
    numbers = numbers - np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _from_polygons(polygons: list[Any], height: int, width: int) -> Rle:
    corners = [_corners(polygon) for polygon in polygons]
    corners = [c for c in corners if len(c) >= 3]
    if not corners:
        raise NoMask(EMPTY)
    inside = [c for c in corners if _touches(c, height, width)]
    if not inside:
        raise NoMask(OUTSIDE)
    if max(float(np.abs(c).max()) for c in inside) > FARTHEST * max(height, width):
        raise BrokenMask("a corner of its polygon lies far outside its picture")
    flat: Sequence[list[float]] = [c.ravel().tolist() for c in inside]
    # One by one: pycocotools takes a list that begins with a list of four numbers for boxes.
    parts = [coco_mask.frPyObjects([polygon], height, width)[0] for polygon in flat]
    rle: Rle = coco_mask.merge(parts)
    return rle


def _corners(polygon: Any) -> NDArray[np.float64]:
    """The corners [N, 2] as x, y of a polygon x, y, x, y, …."""
    if (
        not isinstance(polygon, list)
        or len(polygon) % 2
        or not all(type(number) in (int, float) for number in polygon)
    ):
        raise BrokenMask("its polygon is no list of x, y, x, y, …")
    try:
        return np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    except OverflowError as error:  # JSON's whole numbers have no bound
        raise BrokenMask("a corner of its polygon lies far outside its picture") from error


def _touches(corners: NDArray[np.float64], height: int, width: int) -> bool:
    """Whether the box around the corners shares an area with the picture."""
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    return bool(left < width and top < height and right > 0 and bottom > 0)
