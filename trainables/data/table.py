"""The Parquet layout of a prepared data set: one row a picture, its objects as COCO RLE."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

BoolArray = NDArray[np.bool_]

OBJECT = pa.struct(
    [
        ("id", pa.int64()),
        ("category", pa.string()),
        ("box", pa.list_(pa.float32(), 4)),  # x, y, width, height in pixels
        ("area", pa.int64()),  # pixels
        ("rle", pa.string()),  # COCO's compressed counts; the size is the picture's
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.binary()),  # an encoded picture: PNG, JPEG, …
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("objects", pa.list_(OBJECT)),
    ]
)
ROW_GROUP = 16
"""Pictures a row group: small enough to stream, large enough to compress."""


@dataclass(frozen=True)
class ObjectMask:
    """One annotated object: its id (stable, unique in the data set), its category, its mask."""

    id: int
    category: str
    mask: BoolArray


def object_row(item: ObjectMask) -> dict[str, Any]:
    """The row of an object; box and area come from the mask."""
    rle = coco_mask.encode(np.asfortranarray(item.mask.astype(np.uint8)))
    return {
        "id": item.id,
        "category": item.category,
        "box": [float(v) for v in coco_mask.toBbox(rle)],
        "area": int(coco_mask.area(rle)),
        "rle": rle["counts"].decode("ascii"),
    }


def decode_masks(rows: Sequence[dict[str, Any]], height: int, width: int) -> BoolArray:
    """Masks of object rows, [N, height, width]."""
    if not rows:
        return np.zeros((0, height, width), dtype=np.bool_)
    rles = [{"size": [height, width], "counts": row["rle"].encode("ascii")} for row in rows]
    return np.ascontiguousarray(coco_mask.decode(rles).transpose(2, 0, 1)).astype(np.bool_)


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write picture rows; the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    pq.write_table(table, temporary, row_group_size=ROW_GROUP, compression="zstd")
    temporary.replace(path)
