"""COCO's layout: JSON files in the folder or in `annotations/`, pictures by their `file_name`.

Where files are named `instances*.json`, as COCO names them, those alone are read: captions and key
points beside them speak of the same objects.
"""

import json
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trainables.data.reader import (
    ANNOTATION_BROKEN,
    ANNOTATION_ORPHAN,
    CATEGORY_UNKNOWN,
    CROWD,
    GIVEN_TWICE,
    JSON_BROKEN,
    PICTURE_MISSING,
    WITHOUT_MASK,
    AnnotatedObject,
    AnnotatedPicture,
    Item,
    ReadOptions,
    Rejected,
    object_id,
)
from trainables.data.readers.coco_json import (
    BrokenJson,
    CocoFile,
    CocoImage,
    looks_like_coco,
    parse,
)
from trainables.data.readers.loading import load_picture, picture_of_another_size
from trainables.data.readers.masks import AnotherSize, BrokenMask, NoMask, annotated_rle
from trainables.data.storage import Location

LAYOUT = (
    "annotations/instances_NAME.json (or *.json in the folder itself), pictures in NAME/ or images/"
)
LOOKED_AT = 5
"""JSON files that are opened, at most, to recognise the layout."""


@dataclass
class _Picture:
    """What all files together say of one picture."""

    path: str
    image: CocoImage
    annotations: list[tuple[str, bytes]] = field(default_factory=list)


class _Folders:
    """Which files there are; each folder is listed once."""

    def __init__(self, folder: Location) -> None:
        self._root = _root(folder)
        # Where a file is given and no folder, its pictures may lie beside the file's own folder.
        bound = folder.parent.parent if folder.is_file() else folder
        self._within = f"{bound.path.rstrip('/')}/"
        self._names: dict[str, frozenset[str]] = {}

    def find(self, file: Location, name: str) -> str | None:
        """The path of the picture that a JSON file calls `name`, below the data set's folder."""
        # instances_val2017.json speaks of val2017/
        splits = dict.fromkeys([file.stem, file.stem.partition("_")[2]])
        folders = ["", "images", *splits, *(f"images/{split}" for split in splits)]
        below = name.replace("\\", "/").lstrip("/")
        for start in [file.parent.path, *(f"{self._root.path}/{folder}" for folder in folders)]:
            path = posixpath.normpath(f"{start}/{below}")
            # Whoever wrote the file may not choose what else is read.
            if not path.startswith(self._within):
                continue
            if posixpath.basename(path) in self._listed(posixpath.dirname(path)):
                return path
        return None

    def _listed(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            found = Location(self._root.files, folder).list_files()
            self._names[folder] = frozenset(file.name for file in found)
        return self._names[folder]


def recognises(folder: Location) -> bool:
    """Whether a JSON file that may belong to the layout holds COCO's sections."""
    return any(looks_like_coco(file) for file in _json_files(folder)[:LOOKED_AT])


def items(folder: Location, options: ReadOptions) -> Iterator[Item | Rejected]:
    """One item a picture, ordered by file and place in it; `group` is its `file_name`.

    A picture that several files list is one item with the objects of all. Where the same
    `file_name` stands for different pictures, their paths take its place.
    """
    root, folders = _root(folder), _Folders(folder)
    pictures: dict[str, _Picture] = {}
    for file in _json_files(folder):
        name = file.relative_to(root)
        try:
            content = parse(file)
        except BrokenJson as error:
            yield Rejected(name, JSON_BROKEN, str(error))
            continue
        yield from (Rejected(name, ANNOTATION_BROKEN, line) for line in content.mistakes)
        yield from _gather(content, name, file, folders, pictures, options)
    uses = Counter(picture.image.file_name for picture in pictures.values())
    for path, picture in pictures.items():
        below = posixpath.relpath(path, root.path)
        group = picture.image.file_name if uses[picture.image.file_name] == 1 else below
        yield Item(
            group,
            {
                "path": path,
                "file": below,
                "size": picture.image.size,
                "annotations": tuple(picture.annotations),
            },
        )


def read(
    folder: Location, item: Item, options: ReadOptions
) -> Iterator[AnnotatedPicture | Rejected]:
    """Read a picture and its annotations."""
    file, size = item.part["file"], item.part["size"]
    picture = load_picture(Location(folder.files, item.part["path"]), file, size)
    if isinstance(picture, Rejected):
        yield picture
        return
    if size not in (None, picture.size):
        yield picture_of_another_size(file, picture.size, size)
        return
    dropped: Counter[str] = Counter()
    objects: list[AnnotatedObject] = []
    names: Counter[str] = Counter()
    for category, content in dict.fromkeys(item.part["annotations"]):
        annotation = json.loads(content)
        name = str(annotation.get("id"))
        names[name] += 1
        try:
            rle = _rle(annotation, *picture.size)
        except NoMask as nothing:
            dropped[nothing.reason] += 1
        except BrokenMask as error:
            reason = error.reason if isinstance(error, AnotherSize) else ANNOTATION_BROKEN
            yield Rejected(file, reason, f"annotation {name}: {error}")
        else:
            # Two files may number their objects alike.
            unique = name if names[name] == 1 else f"{name}#{names[name]}"
            objects.append(AnnotatedObject(object_id(item.group, unique), category, rle))
    twice = len(item.part["annotations"]) - len(set(item.part["annotations"]))
    if twice:
        dropped[GIVEN_TWICE] = twice
    yield AnnotatedPicture(item.group, picture.image, *picture.size, tuple(objects), dict(dropped))


def _rle(annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    if annotation.get("iscrowd"):
        raise NoMask(CROWD)
    if not annotation.get("segmentation"):
        raise NoMask(WITHOUT_MASK)
    return annotated_rle(annotation["segmentation"], height, width)


def _root(folder: Location) -> Location:
    """The folder that pictures are searched below; `folder` may be a JSON file."""
    if not folder.is_file():
        return folder
    return folder.parent.parent if folder.parent.name == "annotations" else folder.parent


def _json_files(folder: Location) -> list[Location]:
    if folder.is_file():
        return [folder]
    found = [*folder.list_files(), *(folder / "annotations").list_files()]
    files = [file for file in found if file.suffix == ".json"]
    return [file for file in files if file.stem.startswith("instances")] or files


def _gather(
    content: CocoFile,
    name: str,
    file: Location,
    folders: _Folders,
    pictures: dict[str, _Picture],
    options: ReadOptions,
) -> Iterator[Rejected]:
    """Add what a file says to the pictures; hand over what it says wrongly."""
    paths = {key: folders.find(file, image.file_name) for key, image in content.images.items()}
    missing: Counter[Any] = Counter()
    for key, image in content.images.items():
        if (path := paths[key]) is not None:
            pictures.setdefault(path, _Picture(path, image))
    for annotation in content.annotations:
        category = content.categories.get(annotation.category_id)
        what = f"annotation {json.loads(annotation.content).get('id')}"
        if annotation.image_id not in content.images:
            detail = f"{what} belongs to image {annotation.image_id}, which is not listed"
            yield Rejected(name, ANNOTATION_ORPHAN, detail)
        elif category is None:
            detail = f"{what} has category {annotation.category_id}, which is not listed"
            yield Rejected(name, CATEGORY_UNKNOWN, detail)
        elif (path := paths[annotation.image_id]) is None:
            missing[annotation.image_id] += 1
        elif options.wants(category):
            pictures[path].annotations.append((category, annotation.content))
    for key, image in content.images.items():
        if paths[key] is None:
            detail = f"{name} lists it, with {missing[key]} annotations"
            if ".." in image.file_name:
                detail += "; pictures outside the data set's folder are not read"
            yield Rejected(image.file_name, PICTURE_MISSING, detail)
