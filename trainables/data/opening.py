"""Opening pictures of unknown origin: which formats, how large, and what is said of damage."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
"""The formats that are read. Pillow knows more, and for one of them, EPS, runs another program."""
MOST_PIXELS = 178_956_970
"""Pixels of a picture, 13377×13377, as far as Pillow goes: a small file may claim any number."""
MOST_PAGES = 1 << 16
"""Pages of a stack, which are looked for one after the other."""

# Pillow warns at half of its limit of pictures that are read here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadablePicture(ValueError):
    """A picture can't be read: it is none, it is damaged, or absurdly large. One line says why."""


def open_picture(file: BinaryIO) -> Image.Image:
    """Open a picture and decode all of its first frame.

    Raises:
        UnreadablePicture: it can't be decoded to its end, or is too large.
    """
    with damage_named():
        picture = opened(file)
        picture.load()
        return picture


def open_bytes(content: bytes) -> Image.Image:
    """`open_picture` of a file that was read."""
    return open_picture(io.BytesIO(content))


def opened(file: BinaryIO, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """A picture of which only the header is read.

    Raises:
        UnreadablePicture: it claims too many pixels.
        Exception: Pillow's, of any kind.
    """
    picture = Image.open(file, formats=formats)
    check_size(picture.size)
    return picture


def check_size(size: tuple[int, int]) -> None:
    """Refuse a picture that would fill the memory.

    Args:
        size: (width, height), pixels.

    Raises:
        UnreadablePicture: it has too many.
    """
    if size[0] * size[1] > MOST_PIXELS:
        raise UnreadablePicture(
            f"it claims {size[0]}×{size[1]} pixels; at most {MOST_PIXELS:,} are read"
        )


def count_frames(picture: Image.Image) -> int:
    """The frames, or pages, of an opened picture.

    Raises:
        UnreadablePicture: there are too many.
        Exception: Pillow's, of any kind.
    """
    # Not by `n_frames`, which looks at any number of them.
    for frame in range(1, MOST_PAGES + 1):
        try:
            picture.seek(frame)
        except EOFError:
            return frame
    raise UnreadablePicture(f"it has more than {MOST_PAGES:,} pages")


@contextmanager
def damage_named() -> Iterator[None]:
    """Make one line of whatever Pillow raises on a file that is damaged."""
    try:
        yield
    except UnreadablePicture:
        raise
    except Image.DecompressionBombError:
        raise UnreadablePicture(
            f"it claims more than {MOST_PIXELS:,} pixels, as many as are read"
        ) from None
    except Exception as error:  # nearly anything, depending on where
        what = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            what = "it is in no format that can be read"  # Pillow's own names a memory address
        raise UnreadablePicture(what) from error
