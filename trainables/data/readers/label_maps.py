"""Pictures with instance label maps: `images/NAME.*`, `labels/NAME.*`.

A label map is a picture of the same size whose values number the objects; 0 is background.
"""

from collections.abc import Iterator

from trainables.data.reader import (
    AnnotatedObject,
    AnnotatedPicture,
    Item,
    ReadOptions,
    Rejected,
    object_id,
)
from trainables.data.readers.loading import load_pair
from trainables.data.readers.masks import masks_by_value, rle_of
from trainables.data.readers.pairing import paired
from trainables.data.storage import Location

LAYOUT = "images/NAME.png with label maps labels/NAME.png"
CATEGORY = "object"


def recognises(folder: Location) -> bool:
    """Whether there are both folders."""
    return (folder / "images").is_folder() and (folder / "labels").is_folder()


def items(folder: Location, options: ReadOptions) -> Iterator[Item | Rejected]:
    """One item a picture, ordered by name; `group` is the name without its suffix."""
    for pair in paired(folder, "images", "labels"):
        if isinstance(pair, Rejected):
            yield pair
        else:
            yield Item(pair.stem, {"picture": pair.picture, "label": pair.label})


def read(
    folder: Location, item: Item, options: ReadOptions
) -> Iterator[AnnotatedPicture | Rejected]:
    """Read a picture and its label map."""
    pair = load_pair(folder, item.part["picture"], item.part["label"], channels=1)
    if isinstance(pair, Rejected):
        yield pair
        return
    picture, values = pair
    objects = [
        AnnotatedObject(object_id(item.group, number), CATEGORY, rle_of(mask))
        for number, mask in (masks_by_value(values) if options.wants(CATEGORY) else ())
    ]
    yield AnnotatedPicture(item.group, picture.image, *picture.size, tuple(objects))
