"""Reader for a folder of pictures with instance label maps: `images/NAME.*`, `labels/NAME.*`.

A label map is a picture of the same size whose values number the objects; 0 is background.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from search_spaces.errors import InputError
from trainables.data.table import ObjectMask


def recognises(source: Path) -> bool:
    """Whether `source` has this layout."""
    return (source / "images").is_dir() and (source / "labels").is_dir()


def read(source: Path) -> Iterator[tuple[str, Path, list[ObjectMask]]]:
    """Yield (picture id, picture file, its objects), ordered by id.

    Raises:
        InputError: a label map is missing, can't be read, or has another size than its picture.
    """
    labels = {path.stem: path for path in sorted((source / "labels").iterdir())}
    for path in sorted((source / "images").iterdir()):
        if path.stem not in labels:
            raise InputError(f"data: {path} has no label map {source / 'labels' / path.stem}.*")
        values = _values(labels[path.stem])
        with open_picture(path) as picture:
            if (picture.height, picture.width) != values.shape:
                raise InputError(
                    f"data: {labels[path.stem]} is {values.shape[1]}×{values.shape[0]} pixels, "
                    f"its picture {picture.width}×{picture.height}"
                )
        numbers = [int(n) for n in np.unique(values) if n != 0]
        yield (
            path.stem,
            path,
            [ObjectMask(_object_id(path.stem, n), "object", values == n) for n in numbers],
        )


def open_picture(path: Path) -> Image.Image:
    """Open a picture file and decode all of it.

    Raises:
        InputError: the file can't be read as a picture, or is cut off.
    """
    try:
        picture = Image.open(path)
        picture.load()
        return picture
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"data: {path} can't be read as a picture") from error


def _values(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    with open_picture(path) as picture:
        values = np.asarray(picture)
    if values.ndim != 2:
        raise InputError(f"data: {path} is no label map: it has {values.ndim} dimensions, not 2")
    return values.astype(np.int64)


def _object_id(picture: str, number: int) -> int:
    digest = hashlib.blake2b(f"{picture}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
