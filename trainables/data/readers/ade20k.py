"""ADE20K in its two published layouts.

The challenge's, `ADEChallengeData2016`: `images/SPLIT/NAME.jpg` with a map of 150 classes
`annotations/SPLIT/NAME.png` (0: none of them), names in `objectInfo150.txt`. An object is a
connected part of a class; pixels that touch at a corner connect. Where there is
`annotations_instance/`, of the challenge of 2017, that is read instead: red holds one of 100
classes, green the object.

The full one, `ADE20K_2021_17_01`: `images/ADE/SPLIT/…/NAME.jpg` with `NAME_seg.png` and `NAME.json`
beside it. In the map the class is ⌊red / 10⌋ · 256 + green, blue is the object; the classes'
names are in the JSON file. Hidden parts of objects and parts of objects are not read.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from trainables.data.reader import (
    ANNOTATION_MISSING,
    ANNOTATION_ORPHAN,
    CATEGORY_UNKNOWN,
    JSON_BROKEN,
    AnnotatedObject,
    AnnotatedPicture,
    Item,
    ReadOptions,
    Rejected,
    object_id,
)
from trainables.data.readers.loading import load_pair
from trainables.data.readers.masks import components, masks_by_value, rle_of
from trainables.data.readers.pairing import paired
from trainables.data.storage import Location
from trainables.json_text import parse_json

LAYOUT = (
    "ADEChallengeData2016: images/ and annotations/ with training/ and validation/; "
    "or ADE20K_2021_17_01: images/ADE/"
)
SPLITS = ("training", "validation")
NAMES = "objectInfo150.txt"
# fmt: off
INSTANCE_CLASSES = (
    8, 9, 11, 13, 15, 16, 19, 20, 21, 23, 24, 25, 28, 31, 32, 33, 34, 36, 37, 38, 39, 40, 42, 43,
    44, 45, 46, 48, 50, 51, 54, 56, 57, 58, 59, 63, 65, 66, 67, 68, 70, 71, 72, 73, 74, 75, 76, 77,
    79, 81, 82, 83, 84, 86, 87, 88, 89, 90, 91, 93, 94, 96, 98, 99, 103, 104, 105, 108, 109, 111,
    112, 113, 116, 117, 119, 120, 121, 122, 124, 125, 126, 127, 128, 130, 131, 133, 134, 135, 136,
    137, 138, 139, 140, 143, 144, 145, 147, 148, 149, 150,
)
# fmt: on
"""Which of the 150 classes the 100 of the instance maps are, from number 1 on."""

Masks = Iterator[tuple[int, str, NDArray[np.bool_]]]
"""Of each object its class, what names it in its picture, its mask [H, W]."""


def recognises(folder: Location) -> bool:
    """Whether it is either layout."""
    return _is_full(folder) or any(
        (folder / "images" / split).is_folder() and (folder / "annotations" / split).is_folder()
        for split in SPLITS
    )


def items(folder: Location, options: ReadOptions) -> Iterator[Item | Rejected]:
    """One item a picture, ordered by path; `group` is its path without suffix from SPLIT on."""
    return _full_items(folder) if _is_full(folder) else _challenge_items(folder)


def read(
    folder: Location, item: Item, options: ReadOptions
) -> Iterator[AnnotatedPicture | Rejected]:
    """Read a picture and its map."""
    file, label, kind = item.part["picture"], item.part["map"], item.part["kind"]
    pair = load_pair(folder, file, label, channels=1 if kind == "classes" else 3)
    if isinstance(pair, Rejected):
        yield pair
        return
    picture, values = pair
    names = item.part["names"]
    if kind == "full":
        names = _names_of_full(folder, item.part["json"])
        if isinstance(names, Rejected):
            yield names
            return
    objects, unknown = [], set()
    for number, name, mask in _MASKS[kind](values.astype(np.int64)):
        category = names.get(number, f"class {number}" if kind == "full" else None)
        if category is None:
            unknown.add(number)
        elif options.wants(category):
            objects.append(AnnotatedObject(object_id(item.group, name), category, rle_of(mask)))
    for number in sorted(unknown):
        yield Rejected(label, CATEGORY_UNKNOWN, f"class {number} has no name")
    yield AnnotatedPicture(item.group, picture.image, *picture.size, tuple(objects))


def _is_full(folder: Location) -> bool:
    return (folder / "images" / "ADE").is_folder()


def _challenge_items(folder: Location) -> Iterator[Item | Rejected]:
    names = _names_of_challenge(folder)
    maps, kind = "annotations", "classes"
    if (folder / "annotations_instance").is_folder():
        maps, kind = "annotations_instance", "instances"
        names = {i: names[c] for i, c in enumerate(INSTANCE_CLASSES, start=1) if c in names}
    for split in SPLITS:
        for pair in paired(folder, f"images/{split}", f"{maps}/{split}"):
            if isinstance(pair, Rejected):
                yield pair
                continue
            part = {"picture": pair.picture, "map": pair.label, "kind": kind, "names": names}
            yield Item(f"{split}/{pair.stem}", part)


def _full_items(folder: Location) -> Iterator[Item | Rejected]:
    root = folder / "images" / "ADE"
    for split in SPLITS:
        listed = [file.relative_to(folder) for file in (root / split).list_files(recursive=True)]
        files = set(listed)
        for file in listed:
            stem, _, suffix = file.rpartition(".")
            if suffix == "jpg":
                label, annotations = f"{stem}_seg.png", f"{stem}.json"
                missing = [wanted for wanted in (label, annotations) if wanted not in files]
                if missing:
                    yield Rejected(file, ANNOTATION_MISSING, f"there is no {missing[0]}")
                    continue
                part = {"picture": file, "map": label, "kind": "full", "json": annotations}
                yield Item(stem.removeprefix("images/ADE/"), {**part, "names": {}})
            elif file.endswith("_seg.png") and (picture := f"{stem[:-4]}.jpg") not in files:
                yield Rejected(file, ANNOTATION_ORPHAN, f"there is no {picture}")


def _names_of_challenge(folder: Location) -> dict[int, str]:
    """The first of each class's synonyms; "class N" where the list of names is not there."""
    place = folder / NAMES
    if not place.is_file():
        return {number: f"class {number}" for number in range(1, 151)}
    names = {}
    for line in place.read().decode("utf-8", errors="replace").splitlines():
        columns = line.split("\t")
        if columns[0].strip().isdigit():
            names[int(columns[0])] = _first(columns[-1])
    return names


def _names_of_full(folder: Location, file: str) -> Mapping[int, str] | Rejected:
    """The classes that the picture's JSON file names; others are "class N"."""
    try:
        # An odd byte in a name is no reason to do without the picture.
        found = parse_json((folder / file).read().decode("utf-8", errors="replace"))
        entries = found["annotation"]["object"]
        names = {int(entry["name_ndx"]): _first(str(entry["name"])) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        return Rejected(file, JSON_BROKEN, f"{type(error).__name__}: {error}")
    return names


def _first(synonyms: str) -> str:
    # JSON's texts may hold half a character.
    return synonyms.partition(",")[0].strip().encode("utf-8", "replace").decode()


def _parts_of_classes(values: NDArray[np.int64]) -> Masks:
    for number, mask in masks_by_value(values):
        for part, part_mask in masks_by_value(components(mask)):
            yield number, f"{number}/{part}", part_mask


def _instances(values: NDArray[np.int64]) -> Masks:
    return _pairs(values[..., 0], values[..., 1])


def _full_instances(values: NDArray[np.int64]) -> Masks:
    return _pairs(values[..., 0] // 10 * 256 + values[..., 1], values[..., 2])


def _pairs(classes: NDArray[np.int64], objects: NDArray[np.int64]) -> Masks:
    """The masks of each (class, object) that occurs, both not 0."""
    codes = np.where((classes > 0) & (objects > 0), classes * 256 + objects, 0)
    for code, mask in masks_by_value(codes):
        number, name = divmod(code, 256)
        yield number, f"{number}/{name}", mask


_MASKS = {"classes": _parts_of_classes, "instances": _instances, "full": _full_instances}
