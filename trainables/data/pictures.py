"""A prepared split: pictures by index, read and decoded when they are asked for."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search_spaces.errors import InputError
from trainables.checksums import is_footer_sound
from trainables.data.decode import to_rgb
from trainables.data.opening import UnreadablePicture, open_bytes
from trainables.data.prompts import generator
from trainables.data.storage import MOST_BYTES, Location
from trainables.data.table import SCHEMA, BoolArray, decode_masks

WINDOW = 16
"""Row groups whose pictures are shuffled together, and so many are held in memory …"""
WINDOW_BYTES = 512 << 20
"""… or fewer, where they are larger than those that `prepare` writes."""

PARQUET_DAMAGE = (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError)
"""What pyarrow raises on files that are damaged."""


@dataclass(frozen=True)
class Picture:
    """One picture with its objects.

    `pixels` is uint8 RGB [H, W, 3]; `objects` are rows of the Parquet layout.
    """

    id: str
    pixels: NDArray[np.uint8]
    objects: list[dict[str, Any]]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def masks(self, objects: list[dict[str, Any]] | None = None) -> BoolArray:
        """Masks of `objects` (all of the picture's by default), [N, H, W]."""
        return decode_masks(self.objects if objects is None else objects, *self.size)


class Pictures:
    """The pictures of one Parquet file, of which a few row groups are held, as encoded bytes.

    Args:
        place: the file, a local path or a URI.

    Raises:
        InputError: the file is missing, is no prepared split, or is empty.
    """

    def __init__(self, place: str | Path | Location) -> None:
        self._place = Location.at(place)
        if not self._place.is_file():
            raise InputError(f"data: {place} does not exist; `supersam prepare` writes it")
        opened = self._place.open()
        try:
            self._file = pq.ParquetFile(opened, page_checksum_verification=True)
            groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
            self._check_columns(self._file.schema_arrow)
            is_sound = is_footer_sound(self._place.open())
        except PARQUET_DAMAGE as error:
            reason = " ".join(str(error).split())
            raise InputError(f"data: {place} can't be read as Parquet: {reason}") from error
        if not is_sound:
            raise InputError(
                f"data: {place} is damaged: its footer is not as it was written; prepare it anew"
            )
        counts, largest = [g.num_rows for g in groups], max([1, *(_bytes(g) for g in groups)])
        if min(counts, default=0) < 0 or sum(counts) > opened.size():
            raise InputError(f"data: {place} claims {sum(counts)} pictures, more than it can hold")
        if largest > MOST_BYTES * WINDOW:
            raise InputError(
                f"data: a row group of {place} claims {largest:,} bytes; at most "
                f"{MOST_BYTES * WINDOW:,} are read; write it with smaller ones"
            )
        self._starts = np.cumsum([0, *counts])
        """The index of each row group's first picture; the last entry is the number of pictures."""
        if not len(self):
            raise InputError(f"data: {place} holds no picture; give a data set with pictures in it")
        self._window = min(WINDOW, max(1, WINDOW_BYTES // largest))
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._order = lru_cache(maxsize=2)(self._drawn_order)

    def _check_columns(self, found: pa.Schema) -> None:
        for wanted in SCHEMA:
            if wanted.name not in found.names:
                raise InputError(
                    f"data: {self._place} has no column {wanted.name!r}; "
                    "`supersam prepare` writes it"
                )
            kind = found.field(wanted.name).type
            if not kind.equals(wanted.type):
                raise InputError(
                    f"data: {self._place}: column {wanted.name!r} is {kind}, not {wanted.type}; "
                    "`supersam prepare` writes it"
                )

    def __reduce__(self) -> tuple[type["Pictures"], tuple[Location]]:
        return Pictures, (self._place,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Picture:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        rows = self._row_group(group).slice(index - int(self._starts[group]), 1)
        try:
            (row,) = rows.to_pylist()
            pixels, objects = to_rgb(open_bytes(row["image"])), row["objects"] or []
        except (UnreadablePicture, UnicodeDecodeError) as error:
            raise InputError(
                f"data: {self._place} is damaged: picture {index} can't be decoded: {error}; "
                "prepare it anew"
            ) from error
        if any(found is None or None in found.values() for found in objects):
            raise InputError(f"data: {self._place}: picture {index}: an object lacks a value")
        return Picture(row["id"], pixels, objects)

    def epoch_order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The order of an epoch: each index once, as it follows from the seed and the epoch.

        Row groups come in shuffled order; the pictures of some that follow each other, a window,
        are shuffled together. So an epoch reads each row group about once, however large the split
        is, and a split of one window is shuffled as a whole.
        """
        return self._order(seed, epoch)

    def _drawn_order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        rng = generator(seed, epoch)
        groups = rng.permutation(len(self._starts) - 1)
        windows = [
            np.concatenate([np.arange(self._starts[g], self._starts[g + 1]) for g in window])
            for window in np.split(groups, range(self._window, len(groups), self._window))
        ]
        return np.concatenate([rng.permutation(window) for window in windows])

    def _row_group(self, group: int) -> pa.Table:
        if group in self._held:
            self._held.move_to_end(group)
        else:
            while len(self._held) >= self._window:
                self._held.popitem(last=False)
            try:
                self._held[group] = self._file.read_row_group(group, columns=SCHEMA.names)
            except PARQUET_DAMAGE as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"data: {self._place} is damaged: {reason}; prepare it anew"
                ) from error
        return self._held[group]


def _bytes(group: pq.RowGroupMetaData) -> int:
    return int(group.total_byte_size)
