"""Covering a large picture with tiles."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A part of a picture, from its upper left corner on; pixels."""

    y: int
    x: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """What cuts it out of an array [H, W, …]."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def tiles(height: int, width: int, side: int, overlap: int = 0) -> Iterator[Tile]:
    """Tiles of the same size that cover every pixel, row by row.

    The last one in each direction is moved inward until it ends where the picture does. Where the
    picture is smaller than a tile, so is the tile.

    Args:
        height: the picture's, pixels.
        width: the picture's, pixels.
        side: of a tile, pixels.
        overlap: pixels that neighbours share at least, less than `side`.
    """
    for y in _starts(height, side, overlap):
        for x in _starts(width, side, overlap):
            yield Tile(y, x, min(side, height), min(side, width))


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if side >= length:
        return [0]
    return [*range(0, length - side, side - overlap), length - side]
