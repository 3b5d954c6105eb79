"""The part of preparing that runs in any process: from items to rows of the Parquet layout."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trainables.data.reader import AnnotatedPicture, Item, ReadOptions, Rejected
from trainables.data.readers import READERS
from trainables.data.storage import Location
from trainables.data.table import SCHEMA, object_rows


@dataclass(frozen=True)
class Chunk:
    """Some items, and all that is needed to read them elsewhere.

    Args:
        layout: name of the reader.
        folder: the data set's.
        items: to be read, in this order.
        options: of the reader.
        min_area: objects of fewer pixels are left out.
        max_side: pictures with a longer side, in pixels, are left out; None: no bound.
    """

    layout: str
    folder: Location
    items: tuple[Item, ...]
    options: ReadOptions
    min_area: int
    max_side: int | None


@dataclass(frozen=True)
class ItemResult:
    """What became of one item.

    Args:
        sizes: for each of its rows, bytes of pictures and masks.
        objects: for each of its rows, how many objects it holds.
        rejected: what can't be used.
        dropped: for `pictures` and for `objects`, how many were left out, by reason.
    """

    sizes: tuple[int, ...]
    objects: tuple[int, ...]
    rejected: tuple[Rejected, ...]
    dropped: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class ChunkResult:
    """A chunk's rows, and for each of its items how many of them are its own."""

    rows: pa.Table
    items: tuple[ItemResult, ...]


Mapper = Callable[[Callable[[Chunk], ChunkResult], Iterable[Chunk]], Iterator[ChunkResult]]
"""Runs a function over chunks, anywhere, and gives the results in their order; as `map` does."""


def read_chunk(chunk: Chunk) -> ChunkResult:
    """Read a chunk's items; the result follows from the chunk and the files alone."""
    rows: list[dict[str, Any]] = []
    items = []
    for item in chunk.items:
        found, result = _read_item(chunk, item)
        rows += found
        items.append(result)
    return ChunkResult(pa.Table.from_pylist(rows, schema=SCHEMA), tuple(items))


def _read_item(chunk: Chunk, item: Item) -> tuple[list[dict[str, Any]], ItemResult]:
    rows: list[dict[str, Any]] = []
    rejected = []
    dropped: dict[str, Counter[str]] = {"pictures": Counter(), "objects": Counter()}
    for found in READERS[chunk.layout].read(chunk.folder, item, chunk.options):
        if isinstance(found, Rejected):
            rejected.append(found)
        elif (row := _picture_row(chunk, found, dropped)) is not None:
            rows.append(row)
    result = ItemResult(
        sizes=tuple(len(r["image"]) + sum(len(o["rle"]) for o in r["objects"]) for r in rows),
        objects=tuple(len(row["objects"]) for row in rows),
        rejected=tuple(rejected),
        dropped=dropped,
    )
    return rows, result


def _picture_row(
    chunk: Chunk, picture: AnnotatedPicture, dropped: dict[str, Counter[str]]
) -> dict[str, Any] | None:
    if chunk.max_side is not None and max(picture.height, picture.width) > chunk.max_side:
        dropped["pictures"]["too large"] += 1
        return None
    rows = object_rows(picture.objects)
    kept = [row for row in rows if row["area"] >= chunk.min_area]
    dropped["objects"].update(picture.dropped)
    dropped["objects"]["too small"] += len(rows) - len(kept)
    if not kept:
        dropped["pictures"]["without objects"] += 1
        return None
    return {
        "id": picture.id,
        "image": picture.image,
        "height": picture.height,
        "width": picture.width,
        "objects": kept,
    }
