"""Pictures of the test split with the masks of the parent and of a subnet, side by side."""

import io
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from search_spaces.subnet import Subnet
from trainables.data.table import decode_masks
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.object_results import ObjectResult, object_results
from trainables.sam.supernet import Supernet

SCHEMA = pa.schema(
    [
        ("subnet", pa.string()),
        ("objects", pa.int64()),
        ("miou_parent", pa.float64()),
        ("miou_subnet", pa.float64()),
        ("parent", pa.binary()),  # JPEG: its masks in colour, the true outlines in white
        ("masks", pa.binary()),  # likewise of the subnet
    ]
)
"""Columns of `gallery.parquet`: a picture each, the subnet's largest gain first."""
EACH = 2
"""Pictures where the subnet gains most over the parent, and where it loses most."""
SIDE = 384
"""Longer side of a drawing, pixels."""
COLOURS = np.array(
    [(31, 119, 180), (217, 95, 2), (44, 160, 44), (214, 39, 40), (148, 103, 189), (23, 190, 207)],
    dtype=np.float64,
)


def draw_gallery(
    parent: Supernet, supernet: Supernet, subnet: Subnet, examples: EvaluationSet, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Where a subnet gains most over the pretrained parent, and where it loses most.

    Args:
        parent: as it was loaded.
        supernet: trained.
        subnet: of it.
        examples: of which some are shown.
        batch_size: pictures that the encoders take together.

    Yields:
        Rows of `SCHEMA`; fewer than twice `EACH` where there are fewer pictures.
    """
    theirs = _by_picture(parent, parent.largest, examples, batch_size)
    ours = _by_picture(supernet, subnet, examples, batch_size)
    gains = {i: _miou(ours[i]) - _miou(theirs[i]) for i in ours}
    order = sorted(gains, key=lambda i: -gains[i])
    shown = list(dict.fromkeys([*order[:EACH], *order[-EACH:]]))
    for i in shown:
        yield {
            "subnet": subnet.key,
            "objects": len(ours[i]),
            "miou_parent": _miou(theirs[i]),
            "miou_subnet": _miou(ours[i]),
            "parent": _drawing(examples, i, theirs[i]),
            "masks": _drawing(examples, i, ours[i]),
        }


def _by_picture(
    supernet: Supernet, subnet: Subnet, examples: EvaluationSet, batch_size: int
) -> dict[int, list[ObjectResult]]:
    kinds = (examples.prompts,)
    found: dict[int, list[ObjectResult]] = {}
    for result in object_results(
        supernet, subnet, examples.examples, kinds, batch_size=batch_size, masks_of=kinds
    ):
        found.setdefault(result.picture, []).append(result)
    return found


def _miou(results: Sequence[ObjectResult]) -> float:
    return fmean(result.iou for result in results)


def _drawing(examples: EvaluationSet, picture: int, results: Sequence[ObjectResult]) -> bytes:
    """The picture with its masks, as JPEG."""
    pixels = examples.examples[picture].pixels.permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    share = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    drawn = np.asarray(Image.fromarray(pixels).resize(size), dtype=np.float64)
    masks = [_small(result.mask, result.size, size) for result in results]
    for number, mask in enumerate(masks):
        drawn[mask] = 0.5 * drawn[mask] + 0.5 * COLOURS[number % len(COLOURS)]
    for result in results:
        drawn[_outline(_small(result.truth, result.size, size))] = 255
    encoded = io.BytesIO()
    Image.fromarray(drawn.astype(np.uint8)).save(encoded, "JPEG", quality=88)
    return encoded.getvalue()


def _small(rle: str | None, size: tuple[int, int], drawn: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of COCO's compressed counts at the size of a drawing, (width, height)."""
    (mask,) = decode_masks([{"rle": rle}], *size)
    small = Image.fromarray(mask).resize(drawn, Image.Resampling.NEAREST)
    return np.asarray(small, dtype=np.bool_)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline: NDArray[np.bool_] = mask & ~inside
    return outline
