"""From encoded pictures of any kind to plain ones: 8 bits, grey or RGB, upright, opaque."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from trainables.data.opening import (
    check_size,
    count_frames,
    damage_named,
    open_bytes,
    opened,
)
from trainables.data.storage import Location

PLAIN_MODES = ("L", "RGB")
PLAIN_FORMATS = ("PNG", "JPEG")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa")


@dataclass(frozen=True)
class PlainPicture:
    """A picture that every program shows alike.

    Args:
        image: encoded, PNG or JPEG: 8 bits, grey or RGB, upright, opaque.
        height: pixels.
        width: pixels.
    """

    image: bytes
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.height, self.width


def plain_picture(content: bytes, annotated_size: tuple[int, int] | None = None) -> PlainPicture:
    """Make an encoded picture plain; bytes that are so already go through as they are.

    Others become PNG, which loses nothing more: EXIF's orientation is applied, transparency is laid
    over white, CMYK and palettes become RGB, more than 8 bits are scaled (`plain`).

    Args:
        content: the file, of any of `opening.FORMATS`; of several frames the first counts.
        annotated_size: (height, width) that its annotations speak of. Where this is the size as
            stored and not the upright one, they were made on the stored pixels, and the orientation
            is ignored. Where both are equal (turned by 180°, mirrored) nothing tells, and it is
            applied.

    Raises:
        UnreadablePicture: it can't be decoded to its end.
    """
    picture = open_bytes(content)
    orientation = _orientation(picture)
    if (
        picture.mode in PLAIN_MODES
        and picture.format in PLAIN_FORMATS
        and orientation == 1
        and getattr(picture, "n_frames", 1) == 1
        and "transparency" not in picture.info
        and not _deep_png(picture, content)
    ):
        return PlainPicture(content, picture.height, picture.width)
    stored = (picture.height, picture.width)
    upright = stored[::-1] if orientation >= 5 else stored
    if orientation != 1 and not (annotated_size == stored != upright):
        with damage_named():
            picture = ImageOps.exif_transpose(picture)
    return encode(plain(picture))


def plain(picture: Image.Image) -> Image.Image:
    """A decoded picture as 8 bits grey or RGB, opaque; its orientation is left as it is.

    More than 8 bits (whole numbers or floats) are scaled so that the brightest pixel becomes 255,
    x ↦ ⌊255 x / max⌋; what is negative or no number becomes 0. One bit becomes 0 and 255.

    Raises:
        UnreadablePicture: its colours can't be turned into RGB (CIELAB).
    """
    with damage_named():
        return _plain(picture)


def _plain(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(picture).astype(np.float64), posinf=0.0, neginf=0.0)
        scaled = values * (255 / max(values.max(), 1e-12))
        return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    if picture.mode in _ALPHA_MODES or "transparency" in picture.info:
        colours = picture.convert("RGBA")
        white = Image.new("RGBA", colours.size, "white")
        target = "L" if picture.mode in ("1", "L", "LA") else "RGB"
        return Image.alpha_composite(white, colours).convert(target)
    if picture.mode in PLAIN_MODES:
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture's pixels as RGB [H, W, 3]; what is not plain is made so."""
    return np.array(plain(picture).convert("RGB"))


def encode(picture: Image.Image | NDArray[np.uint8]) -> PlainPicture:
    """Write plain pixels (a picture, [H, W] or [H, W, 3]) as PNG, without metadata."""
    pixels = np.asarray(picture)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return PlainPicture(content.getvalue(), pixels.shape[0], pixels.shape[1])


def pixel_values(content: bytes) -> NDArray[Any]:
    """The values of a label map or mask as stored, [H, W] or [H, W, channels].

    A palette's indices are not replaced by its colours.

    Raises:
        UnreadablePicture: it can't be decoded to its end.
    """
    return np.asarray(open_bytes(content))


def count_pages(stack: Location) -> int:
    """How many pages a multi-page TIFF has.

    Raises:
        UnreadablePicture: it is no picture, or its list of pages is damaged or too long.
    """
    with damage_named(), _opened(stack) as picture:
        return count_frames(picture)


def read_page(stack: Location, page: int) -> Image.Image:
    """One page, from 0, of a multi-page TIFF, all of it decoded, as stored.

    `plain` makes a picture of it, `np.asarray` its values.

    Raises:
        UnreadablePicture: it can't be decoded to its end, or there is no such page.
    """
    with damage_named(), _opened(stack) as picture:
        picture.seek(page)
        check_size(picture.size)
        return picture.copy()


@contextmanager
def _opened(stack: Location) -> Iterator[Image.Image]:
    # Pillow reads line by line when it looks for the format, which pyarrow's files can't.
    with (
        stack.open() as file,
        io.BufferedReader(file) as buffered,
        opened(buffered, ("TIFF",)) as picture,
    ):
        yield picture


def _orientation(picture: Image.Image) -> int:
    """EXIF's number, 1 (upright) to 8; what is none of these means upright."""
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged tag says nothing, and the pixels are whole
        return 1
    return found if found in range(1, 9) else 1


def _deep_png(picture: Image.Image, content: bytes) -> bool:
    """Whether a PNG holds more than 8 bits a channel; Pillow tells that of grey ones only."""
    return picture.format == "PNG" and content[24] > 8  # the bit depth's place in the header
