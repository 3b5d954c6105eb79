"""From a data set's own layout to `train.parquet`, `val.parquet` and `test.parquet`.

No split is held in memory: rows are written as they come.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from search_spaces.errors import InputError
from trainables.data.chunks import Chunk, Mapper, read_chunk
from trainables.data.reader import Item, ReadOptions, Rejected
from trainables.data.readers import READERS, find_reader
from trainables.data.splits import SPLITS, SplitRule
from trainables.data.staging import Staging
from trainables.data.storage import Location
from trainables.data.summary import SUMMARY, PrepareSummary
from trainables.data.table import SCHEMA, RowWriter, SplitWriter
from trainables.data.tally import Tally

CHUNK = 8
"""Items read together: enough to be worth a task of their own, few enough to hold in memory."""
REJECTED = "rejected.parquet"
REJECTED_SCHEMA = pa.schema([(name, pa.string()) for name in ("file", "reason", "detail")])
FILES = (REJECTED, SUMMARY, *(f"{split}.parquet" for split in SPLITS))
"""What a prepared data set consists of, in the order in which it appears."""


def prepare(
    source: str | Path | Location,
    target: str | Path | Location,
    *,
    rule: SplitRule,
    layout: str | None = None,
    options: ReadOptions | None = None,
    min_area: int = 16,
    max_side: int | None = None,
    limits: Mapping[str, int] | None = None,
    strict: bool = False,
    mapper: Mapper = map,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PrepareSummary:
    """Read a data set and write its three splits, `rejected.parquet` and `summary.json`.

    A split's pictures stand in the order of their groups' rank, so its first N are a random sample.

    Args:
        source: the data set's folder, a local path or a URI.
        target: the folder for the files, a local path or a URI; made if missing.
        rule: how pictures are split.
        layout: a name of `READERS`; recognised by what is there if not given.
        options: of the reader.
        min_area: objects of fewer pixels are left out.
        max_side: pictures with a longer side, in pixels, are left out.
        limits: how many pictures a split holds at most, by name; items beyond are not read.
        strict: the first thing that can't be used is an error.
        mapper: runs `read_chunk` over chunks; here and now by default.
        progress: told how many items are done, and of how many.

    Returns:
        What was written, and what was left out.

    Raises:
        InputError: the layout is not recognised, nothing can be read, a split would be empty, or
            the target can't be written. Nothing is written then.
    """
    started = time.monotonic()
    folder = Location.at(source)
    reader = find_reader(folder, layout)
    name = next(known for known, other in READERS.items() if other is reader)
    options = options or ReadOptions()
    tally = Tally(folder, limits or {}, strict)
    items = _items_by_split(reader.items(folder, options), rule, tally)
    total = sum(len(listed) for listed in items.values())
    done = itertools.count(1)
    with Staging(Location.at(target), FILES) as staging:
        for split, listed in items.items():
            chunks = [
                Chunk(name, folder, tuple(listed[i : i + CHUNK]), options, min_area, max_side)
                for i in range(0, len(listed), CHUNK)
            ]
            with RowWriter(staging.open(f"{split}.parquet")) as writer:
                for row, size in _rows(
                    split, chunks, mapper, tally, lambda: progress(next(done), total)
                ):
                    with staging.writing():
                        writer.add(row, size)
                with staging.writing():
                    writer.close()
            tally.check_not_empty(split)
        rejected = pa.Table.from_pylist([asdict(r) for r in tally.rejected], REJECTED_SCHEMA)
        summary = tally.summary(time.monotonic() - started)
        with staging.writing():
            pq.write_table(rejected, staging.open(REJECTED))
        staging.write(SUMMARY, (json.dumps(summary.to_dict(), indent=2) + "\n").encode())
    return summary


def is_prepared(folder: Location) -> bool:
    """Whether a folder holds the three splits that `prepare` writes."""
    return all((folder / f"{split}.parquet").is_file() for split in SPLITS)


def copy_prepared(source: Location, target: Location) -> None:
    """Copy a prepared data set, from and to any file system; the splits then have checksums.

    Raises:
        InputError: a split is damaged, or the target can't be written; nothing is written then.
    """
    with Staging(target, FILES) as staging:
        for name in FILES:
            if not (source / name).is_file():
                continue
            if name in (REJECTED, SUMMARY):
                staging.copy(name, source / name)
            else:
                _copy_split(staging, name, source / name)


def _copy_split(staging: Staging, name: str, source: Location) -> None:
    """Row group by row group: what was written elsewhere may have no checksums."""
    sink = staging.open(name)
    with staging.writing(), SplitWriter(sink) as writer:
        for table in _row_groups(source):
            writer.write(table)


def _row_groups(source: Location) -> Iterator[pa.Table]:
    try:
        file = pq.ParquetFile(source.open(), page_checksum_verification=True)
        for i in range(file.num_row_groups):
            yield file.read_row_group(i).select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"data: {source} is damaged: {error}; prepare it anew") from error


def _items_by_split(
    found: Iterable[Item | Rejected], rule: SplitRule, tally: Tally
) -> dict[str, list[Item]]:
    """Each split's items in the order of their groups' rank.

    Raises:
        InputError: a split would have none.
    """
    listed: list[Item] = []
    for item in found:
        if isinstance(item, Rejected):
            tally.reject(item)
        else:
            listed.append(item)
    listed.sort(key=lambda item: rule.rank(item.group))
    items: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item in listed:
        items[rule.split(item.group)].append(item)
    for split in SPLITS:
        if not items[split]:
            tally.check_not_empty(split)
    return items


def _rows(
    split: str,
    chunks: Sequence[Chunk],
    mapper: Mapper,
    tally: Tally,
    advance: Callable[[], None],
) -> Iterator[tuple[pa.Table, int]]:
    """A split's rows with the bytes of each; once it is full, no further chunk is asked for.

    A mapper may have read some chunks ahead. They count as unread, so that how it works changes
    nothing.
    """
    wanted = itertools.takewhile(lambda chunk: not tally.is_full(split), chunks)
    results = mapper(read_chunk, wanted)
    for chunk in chunks:
        result = None if tally.is_full(split) else next(results)
        first = 0
        for i, item in enumerate(chunk.items):
            if result is None or tally.is_full(split):
                tally.over_the_limit(1)
            else:
                found = result.items[i]
                tally.note(found)
                names = result.rows["id"].slice(first, len(found.sizes)).to_pylist()
                for picture, objects, size in zip(names, found.objects, found.sizes, strict=True):
                    if tally.takes(split, picture, objects, item):
                        yield result.rows.slice(first, 1), size
                    first += 1
            advance()
