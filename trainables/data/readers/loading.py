"""Pictures and label maps from files, or why not."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.decode import PlainPicture, pixel_values, plain_picture
from trainables.data.opening import UnreadablePicture
from trainables.data.reader import (
    MASK_SIZE,
    MASK_UNREADABLE,
    PICTURE_MISSING,
    PICTURE_SIZE,
    PICTURE_UNREADABLE,
    Rejected,
)
from trainables.data.storage import FileTooLarge, Location

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""Suffixes of pictures, where a folder holds other files too."""

# Mistakes in the data. Any other OSError (the network, a disk) is none, and stops the reading.
_NO_FILE = (FileNotFoundError, PermissionError, IsADirectoryError)


def load_picture(
    place: Location, file: str, annotated_size: tuple[int, int] | None
) -> PlainPicture | Rejected:
    """Read a picture, plain and upright.

    Args:
        place: where it is.
        file: its path below the data set's folder.
        annotated_size: see `plain_picture`; it is not checked here.
    """
    try:
        return plain_picture(place.read(), annotated_size)
    except _NO_FILE as error:
        return Rejected(file, PICTURE_MISSING, _line(error))
    except (UnreadablePicture, FileTooLarge) as error:
        return Rejected(file, PICTURE_UNREADABLE, str(error))


def load_values(place: Location, file: str, channels: int) -> NDArray[Any] | Rejected:
    """Read a label map or mask as stored.

    Args:
        place: where it is.
        file: its path below the data set's folder.
        channels: how many it must have.

    Returns:
        Whole numbers, [H, W] or, of several channels, [H, W, channels].
    """
    try:
        values = pixel_values(place.read())
    except _NO_FILE as error:
        return Rejected(file, MASK_UNREADABLE, _line(error))
    except (UnreadablePicture, FileTooLarge) as error:
        return Rejected(file, MASK_UNREADABLE, str(error))
    return checked_values(values, file, channels)


def load_pair(
    folder: Location, file: str, label: str, channels: int
) -> tuple[PlainPicture, NDArray[Any]] | Rejected:
    """Read a picture and its map, which must be of one size.

    Args:
        folder: the data set's.
        file: the picture, below it.
        label: the map, below it.
        channels: how many the map must have.
    """
    values = load_values(folder / label, label, channels)
    if isinstance(values, Rejected):
        return values
    size = (values.shape[0], values.shape[1])
    picture = load_picture(folder / file, file, size)
    if isinstance(picture, Rejected):
        return picture
    if picture.size != size:
        return mask_of_another_size(label, size, picture.size)
    return picture, values


def checked_values(values: NDArray[Any], file: str, channels: int) -> NDArray[Any] | Rejected:
    """A map's values, if they have the channels that they must have and are whole numbers."""
    found = 1 if values.ndim == 2 else values.shape[2]
    if found != channels:
        return Rejected(file, MASK_UNREADABLE, f"it has {found} channels, and must have {channels}")
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.integer):
        return Rejected(file, MASK_UNREADABLE, "its values are no whole numbers")
    return values


def mask_of_another_size(file: str, mask: tuple[int, int], picture: tuple[int, int]) -> Rejected:
    """What to hand over for a map that has not its picture's size; sizes are (height, width)."""
    return Rejected(file, MASK_SIZE, f"it is {extent(mask)} pixels, its picture {extent(picture)}")


def picture_of_another_size(
    file: str, picture: tuple[int, int], annotated: tuple[int, int]
) -> Rejected:
    """What to hand over for a picture that has not the size that its annotations say."""
    return Rejected(
        file,
        PICTURE_SIZE,
        f"it is {extent(picture)} pixels, its annotations speak of {extent(annotated)}",
    )


def extent(size: tuple[int, int]) -> str:
    """A size (height, width) as people write it: width×height."""
    return f"{size[1]}×{size[0]}"


def _line(error: OSError) -> str:
    return error.strerror or " ".join(str(error).split())
