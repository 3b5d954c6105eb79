"""Sections of electron microscopy with masks, in two layouts.

Stacks, as EPFL publishes its mitochondria: `NAME.tif`, a page a section, with the masks
`NAME_groundtruth.tif`. Folders: `raw/NAME.*` with `CATEGORY/NAME.*` for each category.

In a mask what is not 0 belongs to objects. An object is a connected part of its section's mask;
pixels that touch at a corner connect. A tile that cuts an object holds its part of it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.decode import (
    PlainPicture,
    count_pages,
    encode,
    pixel_values,
    plain,
    read_page,
)
from trainables.data.opening import UnreadablePicture
from trainables.data.reader import (
    ANNOTATION_MISSING,
    ANNOTATION_ORPHAN,
    MASK_UNREADABLE,
    PICTURE_UNREADABLE,
    STACK_LENGTHS,
    AnnotatedObject,
    AnnotatedPicture,
    Item,
    ReadOptions,
    Rejected,
    object_id,
)
from trainables.data.readers.loading import (
    PICTURES,
    checked_values,
    load_picture,
    load_values,
    mask_of_another_size,
)
from trainables.data.readers.masks import components, masks_by_value, rle_of
from trainables.data.readers.pairing import by_stem, several_of_a_name
from trainables.data.readers.tiles import tiles
from trainables.data.storage import Location

LAYOUT = "NAME.tif with NAME_groundtruth.tif, or raw/NAME.* with CATEGORY/NAME.* of masks"
STACK_CATEGORY = "mitochondria"
MASKS = "_groundtruth"
WHOLE = "volumedata"
"""EPFL's whole volume: no masks of its own, and the sections of test lie in it."""


def recognises(folder: Location) -> bool:
    """Whether there is a stack of masks, or `raw/` with another folder of pictures beside it."""
    if not folder.is_folder():
        return False
    if any(stem.endswith(MASKS) for stem in _stacks(folder)):
        return True
    return (folder / "raw").is_folder() and bool(_categories(folder))


def items(folder: Location, options: ReadOptions) -> Iterator[Item | Rejected]:
    """One item a section, in order; `group` is `STACK/PAGE` (from 0000) or the section's name."""
    yield from _stack_items(folder)
    if (folder / "raw").is_folder():
        yield from _folder_items(folder, options)


def read(
    folder: Location, item: Item, options: ReadOptions
) -> Iterator[AnnotatedPicture | Rejected]:
    """Read a section and its masks; cut it if tiles are asked for."""
    section = _section(folder, item)
    if isinstance(section, Rejected):
        yield section
        return
    parts: dict[str, NDArray[np.int64]] = {}
    mistakes = 0
    for category, file in item.part["masks"].items():
        mask = _mask(folder, file, item.part["page"]) if options.wants(category) else None
        if mask is not None and not isinstance(mask, Rejected) and mask.shape != section.size:
            mask = mask_of_another_size(file, (mask.shape[0], mask.shape[1]), section.size)
        if isinstance(mask, Rejected):
            mistakes += 1
            yield mask
        elif mask is not None:
            parts[category] = components(mask)
    if parts or not mistakes:
        yield from _pictures(item.group, section, parts, options)


def _pictures(
    group: str, section: PlainPicture, parts: dict[str, NDArray[np.int64]], options: ReadOptions
) -> Iterator[AnnotatedPicture]:
    """The section, or its tiles."""
    if options.tile is None:
        yield AnnotatedPicture(group, section.image, *section.size, _objects(group, parts))
        return
    pixels = pixel_values(section.image)
    for tile in tiles(*section.size, options.tile, options.tile_overlap):
        name = f"{group}@{tile.y},{tile.x}"
        cut = {category: numbers[tile.window] for category, numbers in parts.items()}
        picture = encode(pixels[tile.window])
        yield AnnotatedPicture(name, picture.image, *picture.size, _objects(name, cut))


def _objects(picture: str, parts: dict[str, NDArray[np.int64]]) -> tuple[AnnotatedObject, ...]:
    return tuple(
        AnnotatedObject(object_id(picture, f"{category}/{number}"), category, rle_of(mask))
        for category, numbers in parts.items()
        for number, mask in masks_by_value(numbers)
    )


def _section(folder: Location, item: Item) -> PlainPicture | Rejected:
    file, page = item.part["picture"], item.part["page"]
    if page is None:
        return load_picture(folder / file, file, None)
    try:
        return encode(plain(read_page(folder / file, page)))
    except UnreadablePicture as error:
        return Rejected(file, PICTURE_UNREADABLE, f"page {page}: {error}")


def _mask(folder: Location, file: str, page: int | None) -> NDArray[Any] | Rejected:
    if page is None:
        return load_values(folder / file, file, channels=1)
    try:
        return checked_values(np.asarray(read_page(folder / file, page)), file, channels=1)
    except UnreadablePicture as error:
        return Rejected(file, MASK_UNREADABLE, f"page {page}: {error}")


def _stacks(folder: Location) -> dict[str, str]:
    """The names of the TIFF files in the folder itself, by their stem."""
    files = folder.list_files()
    return {f.stem: f.name for f in files if f.suffix in (".tif", ".tiff") and f.stem != WHOLE}


def _stack_items(folder: Location) -> Iterator[Item | Rejected]:
    stacks = _stacks(folder)
    for stem, file in stacks.items():
        if stem.endswith(MASKS):
            if (picture := stem.removesuffix(MASKS)) not in stacks:
                yield Rejected(file, ANNOTATION_ORPHAN, f"there is no {picture}.tif")
            continue
        masks = stacks.get(stem + MASKS)
        if masks is None:
            yield Rejected(file, ANNOTATION_MISSING, f"there is no {stem}{MASKS}.tif")
            continue
        counts = []
        for name, reason in ((file, PICTURE_UNREADABLE), (masks, MASK_UNREADABLE)):
            try:
                counts.append(count_pages(folder / name))
            except UnreadablePicture as error:
                yield Rejected(name, reason, str(error))
        if len(counts) == 2 and counts[0] != counts[1]:
            # Nothing tells which page lacks its mask.
            detail = f"it has {counts[0]} pages, {masks} {counts[1]}"
            yield Rejected(file, STACK_LENGTHS, detail)
        elif len(counts) == 2:
            part = {"picture": file, "masks": {STACK_CATEGORY: masks}}
            for page in range(counts[0]):
                yield Item(f"{stem}/{page:04d}", {**part, "page": page})


def _folder_items(folder: Location, options: ReadOptions) -> Iterator[Item | Rejected]:
    sections = by_stem(folder, "raw")
    categories = {name: found for name, found in _categories(folder).items() if options.wants(name)}
    for stem, files in sorted(sections.items()):
        masks = {name: found[stem] for name, found in categories.items() if stem in found}
        for name in sorted(categories.keys() - masks.keys()):
            yield Rejected(files[0], ANNOTATION_MISSING, f"there is no {name}/{stem}.*")
        several = [found for found in (files, *masks.values()) if len(found) > 1]
        for found in several:
            yield from several_of_a_name(found)
        if not several and (masks or not categories):
            alone = {name: found[0] for name, found in masks.items()}
            yield Item(stem, {"picture": files[0], "masks": alone, "page": None})
    for maps in categories.values():
        for stem in sorted(maps.keys() - sections.keys()):
            detail = f"there is no raw/{stem}.*"
            yield from (Rejected(file, ANNOTATION_ORPHAN, detail) for file in maps[stem])


def _categories(folder: Location) -> dict[str, dict[str, list[str]]]:
    """The folders of masks beside `raw/`: their pictures by stem."""
    found = {}
    for place in folder.list():
        if place.name != "raw" and not place.name.startswith(".") and place.is_folder():
            stems = by_stem(folder, place.name)
            pictures = [f for files in stems.values() for f in files if f.endswith(PICTURES)]
            if pictures:
                found[place.name] = stems
    return found
