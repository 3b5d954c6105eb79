"""A prepared split: pictures by index, decoded when they are asked for."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from search_spaces.errors import InputError
from trainables.data.pixels import to_rgb
from trainables.data.table import SCHEMA, BoolArray, decode_masks


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
    """The pictures of one Parquet file, held as encoded bytes.

    Raises:
        InputError: the file is missing, is no prepared split, or is empty.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"data: {path} does not exist; `supersam prepare` writes it")
        try:
            self._table = pq.read_table(path)
        except pa.ArrowInvalid as error:
            raise InputError(f"data: {path} can't be read as Parquet: {error}") from error
        missing = set(SCHEMA.names) - set(self._table.column_names)
        if missing:
            raise InputError(
                f"data: {path} has no column {sorted(missing)[0]!r}; `supersam prepare` writes it"
            )
        if not len(self._table):
            raise InputError(f"data: {path} holds no picture; give a data set with pictures in it")

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Picture:
        row = self._table.slice(index, 1).to_pylist()[0]
        with Image.open(io.BytesIO(row["image"])) as picture:
            pixels = to_rgb(picture)
        return Picture(row["id"], pixels, row["objects"])
