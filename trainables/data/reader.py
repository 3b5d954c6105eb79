"""What a reader of a data set's layout is, and what it hands over.

Reading has two halves. `items` lists what there is, quickly and in one process; each item is one
picture, or one section that becomes several tiles. `read` does the work, in any process.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from search_spaces.errors import InputError
from trainables.data.storage import Location

# Why something is `Rejected`.
PICTURE_UNREADABLE = "picture can't be read"
PICTURE_MISSING = "picture missing"
PICTURE_SIZE = "picture of another size"
NAME_TWICE = "name given twice"
ANNOTATION_MISSING = "picture without annotations"
ANNOTATION_ORPHAN = "annotation without its picture"
ANNOTATION_BROKEN = "broken annotation"
CATEGORY_UNKNOWN = "unknown category"
MASK_SIZE = "mask of another size"
MASK_UNREADABLE = "mask can't be read"
JSON_BROKEN = "broken JSON"
STACK_LENGTHS = "stacks of different lengths"

# Why an object is in `dropped`: nothing is wrong, but it is no object to learn from.
CROWD = "crowd"
EMPTY = "empty"
OUTSIDE = "outside the picture"
WITHOUT_MASK = "without a mask"
GIVEN_TWICE = "given twice"


@dataclass(frozen=True)
class Item:
    """One unit of work: small, and it can be sent to another process.

    Args:
        group: what its pictures' split follows from, and what a person finds it by: a path below
            the data set's folder. Whatever must not stand in two splits shares a group.
        part: what the reader needs to read it: file names, a page, annotations.
    """

    group: str
    part: Mapping[str, Any]


@dataclass(frozen=True)
class AnnotatedObject:
    """One annotated object.

    Args:
        id: stable, and unique in the data set; `object_id` makes it.
        category: its name.
        rle: the mask, COCO's compressed form: `{"size": [height, width], "counts": bytes}`.
    """

    id: int
    category: str
    rle: Mapping[str, Any]


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture with its objects.

    Args:
        id: unique in the data set.
        image: encoded, 8 bits, RGB or grey, upright (`decode.plain_picture` sees to that).
        height: pixels.
        width: pixels.
        objects: those that can be used as far as the reader knows.
        dropped: how many objects the reader left out, by reason, one of the constants above.
    """

    id: str
    image: bytes
    height: int
    width: int
    objects: tuple[AnnotatedObject, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rejected:
    """Something that can't be used though it should be: a broken file, a mask of another size.

    Args:
        file: its path below the data set's folder.
        reason: one of the constants above: tables count by it.
        detail: what exactly, and what would be right; one line.
    """

    file: str
    reason: str
    detail: str


@dataclass(frozen=True)
class ReadOptions:
    """What a user may say about the reading itself.

    Args:
        categories: only objects of these names; None: all.
        tile: side of the tiles that EM sections are cut into, pixels; None: whole sections.
        tile_overlap: pixels that neighbouring tiles share, at least.

    Raises:
        InputError: there are no such tiles.
    """

    categories: tuple[str, ...] | None = None
    tile: int | None = None
    tile_overlap: int = 0

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < 1:
            raise InputError(f"tile: {self.tile} is no side of a tile; give a number of pixels")
        if not 0 <= self.tile_overlap < (self.tile or self.tile_overlap + 1):
            raise InputError(
                f"tile_overlap: {self.tile_overlap} must be at least 0 and less than tile"
            )

    def wants(self, category: str) -> bool:
        """Whether objects of a category are asked for."""
        return self.categories is None or category in self.categories


class Reader(Protocol):
    """A layout of data sets; a module with these names is one.

    `LAYOUT` says in one line what the layout looks like, for people.
    """

    LAYOUT: str

    def recognises(self, folder: Location) -> bool:
        """Whether the folder has this layout, from the names that are there; quick."""
        ...

    def items(self, folder: Location, options: ReadOptions) -> Iterator[Item | Rejected]:
        """List the work, in a fixed order.

        Raises:
            InputError: nothing at all can be read, and why.
        """
        ...

    def read(
        self, folder: Location, item: Item, options: ReadOptions
    ) -> Iterator[AnnotatedPicture | Rejected]:
        """Read one item. A mistake in the data is a `Rejected`, never an exception."""
        ...


def object_id(picture: str, annotation: int | str) -> int:
    """An object's id from its picture's id and what names it there; 63 bits."""
    digest = hashlib.blake2b(
        f"{picture}/{annotation}".encode("utf-8", "surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "big") >> 1
