"""The Parquet layout of a prepared data set: one row a picture, its objects as COCO RLE."""

import io
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from search_spaces.errors import InputError
from trainables.checksums import UNSEALED, sealed_end
from trainables.data.reader import AnnotatedObject
from trainables.data.readers.masks import check_compressed

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
ROW_GROUP_BYTES = 32 << 20
"""Pictures and masks a row group; one picture alone may be larger."""

_OBJECT_COLUMNS = [
    f"objects.list.element.{name}" for name in ("id", "category", "box.list.element", "area", "rle")
]
# Encoded pictures don't get smaller, and no two are equal.
_COMPRESSION = {"image": "none"} | dict.fromkeys(
    ["id", "height", "width", *_OBJECT_COLUMNS], "zstd"
)
_WITH_DICTIONARY = ["height", "width", "objects.list.element.category"]


def object_rows(objects: Sequence[AnnotatedObject]) -> list[dict[str, Any]]:
    """The rows of a picture's objects; box and area come from the masks."""
    rles = [dict(item.rle) for item in objects]
    return [
        {
            "id": item.id,
            "category": item.category,
            "box": [float(value) for value in box],
            "area": int(area),
            "rle": rle["counts"].decode("ascii"),
        }
        for item, rle, box, area in zip(
            objects, rles, coco_mask.toBbox(rles), coco_mask.area(rles), strict=True
        )
    ]


def decode_masks(rows: Sequence[dict[str, Any]], height: int, width: int) -> BoolArray:
    """Masks of object rows, [N, height, width].

    Raises:
        InputError: run lengths do not describe a mask of this size.
    """
    if not rows:
        return np.zeros((0, height, width), dtype=np.bool_)
    rles = [{"size": [height, width], "counts": _sound(row, height * width)} for row in rows]
    return np.ascontiguousarray(coco_mask.decode(rles).transpose(2, 0, 1)).astype(np.bool_)


def _sound(row: dict[str, Any], pixels: int) -> bytes:
    """An object's run lengths, which come from a file that anyone may have written."""
    try:
        counts: bytes = row["rle"].encode("ascii")
        check_compressed(counts, pixels)
    except ValueError as error:
        raise InputError(
            f"data: the mask of object {row.get('id')} is broken: {error}; prepare it anew"
        ) from error
    return counts


class SplitWriter:
    """Writes a split, with a checksum of each page and of the footer.

    Use it in a `with` block: what a block leaves that ended with an exception is no whole file.

    Args:
        sink: a binary stream, which stays open.
    """

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._end = _End(sink)
        self._writer = pq.ParquetWriter(
            self._end,
            SCHEMA.with_metadata(UNSEALED),
            compression=_COMPRESSION,
            use_dictionary=_WITH_DICTIONARY,
            write_page_checksum=True,
        )

    def write(self, group: pa.Table) -> None:
        """Write a row group."""
        self._writer.write_table(group, row_group_size=len(group))

    def close(self) -> None:
        """Make the file a whole one; again changes nothing."""
        if self._end.held is None:
            self._sink.write(sealed_end(self._end.passed, self._ended()))

    def abandon(self) -> None:
        """Leave the file as it is, unless it is a whole one."""
        if self._end.held is None:
            self._ended()

    def _ended(self) -> bytes:
        """What Parquet writes at the end of a file."""
        self._end.held = io.BytesIO()
        self._writer.close()
        return self._end.held.getvalue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        (self.close if kind is None else self.abandon)()


class _End(io.RawIOBase):
    """Hands what is written to a stream, or holds it back: the footer is sealed first."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self.passed = 0
        self.held: io.BytesIO | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.held is not None:
            return self.held.write(data)
        self.passed += len(data)
        self._sink.write(data)
        return len(data)


class RowWriter:
    """Streams rows into Parquet; the same rows give the same bytes, however they come in.

    Use it in a `with` block: what a block leaves that ended with an exception is no whole file.

    Args:
        sink: a binary stream, which stays open.
    """

    def __init__(self, sink: Any) -> None:
        self._writer = SplitWriter(sink)
        self._waiting: list[pa.Table] = []
        self._bytes = 0

    def add(self, row: pa.Table, size: int) -> None:
        """Append one row; `size` is the bytes of its picture and masks."""
        full = len(self._waiting) == ROW_GROUP or self._bytes + size > ROW_GROUP_BYTES
        if self._waiting and full:
            self._flush()
        self._waiting.append(row)
        self._bytes += size

    def close(self) -> None:
        """Write what is left, and make the file a whole one; again changes nothing."""
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._writer.write(table)
        self._waiting, self._bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        (self.close if kind is None else self._writer.abandon)()
