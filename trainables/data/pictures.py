"""A prepared split: pictures by index, read and decoded when they are asked for."""

import io
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from search_spaces.errors import InputError
from trainables.data.decode import to_rgb
from trainables.data.prompts import generator
from trainables.data.storage import Location
from trainables.data.table import SCHEMA, BoolArray, decode_masks

WINDOW = 16
"""Row groups whose pictures are shuffled together, and so many are held in memory …"""
WINDOW_BYTES = 512 << 20
"""… or fewer, where they are larger than those that `prepare` writes."""


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
        try:
            self._file = pq.ParquetFile(self._place.open(), page_checksum_verification=True)
        except pa.ArrowInvalid as error:
            raise InputError(f"data: {place} can't be read as Parquet: {error}") from error
        missing = set(SCHEMA.names) - set(self._file.schema_arrow.names)
        if missing:
            raise InputError(
                f"data: {place} has no column {sorted(missing)[0]!r}; `supersam prepare` writes it"
            )
        groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *(group.num_rows for group in groups)])
        """The index of each row group's first picture; the last entry is the number of pictures."""
        if not len(self):
            raise InputError(f"data: {place} holds no picture; give a data set with pictures in it")
        largest = max(group.total_byte_size for group in groups)
        self._window = min(WINDOW, max(1, WINDOW_BYTES // largest))
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._order = lru_cache(maxsize=2)(self._drawn_order)

    def __reduce__(self) -> tuple[type["Pictures"], tuple[Location]]:
        return Pictures, (self._place,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Picture:
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        rows = self._row_group(group).slice(index - int(self._starts[group]), 1)
        (row,) = rows.to_pylist()
        with Image.open(io.BytesIO(row["image"])) as picture:
            pixels = to_rgb(picture)
        return Picture(row["id"], pixels, row["objects"])

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
            except (pa.ArrowException, OSError) as error:
                raise InputError(
                    f"data: {self._place} is damaged: {error}; prepare it anew"
                ) from error
        return self._held[group]
