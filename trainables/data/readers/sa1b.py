"""SA-1B's layout: `NAME.jpg` with `NAME.json` beside it, in one folder or in folders below it."""

from collections.abc import Iterator
from typing import Any

from trainables.data.reader import (
    ANNOTATION_BROKEN,
    ANNOTATION_MISSING,
    ANNOTATION_ORPHAN,
    JSON_BROKEN,
    AnnotatedObject,
    AnnotatedPicture,
    Item,
    ReadOptions,
    Rejected,
    object_id,
)
from trainables.data.readers.loading import PICTURES, load_picture, picture_of_another_size
from trainables.data.readers.masks import AnotherSize, BrokenMask, NoMask, annotated_rle
from trainables.data.readers.pairing import several_of_a_name
from trainables.data.storage import Location
from trainables.json_text import parse_json

LAYOUT = "sa_NUMBER.jpg with sa_NUMBER.json beside it"
CATEGORY = "object"


def recognises(folder: Location) -> bool:
    """Whether a file `sa_*.json` is there, or in the first folder that is."""
    if not folder.is_folder():
        return False
    if _annotated(folder):
        return True
    first = next((place for place in folder.list() if place.is_folder()), None)
    return first is not None and _annotated(first)


def items(folder: Location, options: ReadOptions) -> Iterator[Item | Rejected]:
    """One item a picture, ordered by path; `group` is its path without the suffix."""
    pictures: dict[str, list[str]] = {}
    annotated = set()
    for place in folder.list_files(recursive=True):
        file = place.relative_to(folder)
        if place.suffix in PICTURES:
            pictures.setdefault(_stem(file), []).append(file)
        elif place.suffix == ".json":
            annotated.add(_stem(file))
    for group in sorted(annotated | set(pictures)):
        files = pictures.get(group, [])
        if not files:
            detail = f"there is no picture {group}.jpg"
            yield Rejected(f"{group}.json", ANNOTATION_ORPHAN, detail)
        elif group not in annotated:
            detail = f"there is no {group}.json"
            yield from (Rejected(file, ANNOTATION_MISSING, detail) for file in files)
        elif len(files) == 1:
            yield Item(group, {"picture": files[0], "annotations": f"{group}.json"})
        else:
            yield from several_of_a_name(files)


def read(
    folder: Location, item: Item, options: ReadOptions
) -> Iterator[AnnotatedPicture | Rejected]:
    """Read a picture and its JSON file."""
    file, annotations = item.part["picture"], item.part["annotations"]
    try:
        size, entries = _parsed((folder / annotations).read())
    except (ValueError, KeyError, TypeError) as error:
        detail = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        yield Rejected(annotations, JSON_BROKEN, detail)
        return
    picture = load_picture(folder / file, file, size)
    if isinstance(picture, Rejected):
        yield picture
        return
    if picture.size != size:
        yield picture_of_another_size(file, picture.size, size)
        return
    objects: dict[int, AnnotatedObject] = {}
    dropped: dict[str, int] = {}
    for entry in entries if options.wants(CATEGORY) else []:
        try:
            name = entry["id"]
            rle = annotated_rle(entry["segmentation"], *size)
        except NoMask as nothing:
            dropped[nothing.reason] = dropped.get(nothing.reason, 0) + 1
        except AnotherSize as error:
            yield Rejected(annotations, error.reason, f"annotation {name}: {error}")
        except BrokenMask as error:
            yield Rejected(annotations, ANNOTATION_BROKEN, f"annotation {name}: {error}")
        except (KeyError, TypeError) as error:
            yield Rejected(annotations, ANNOTATION_BROKEN, f"an annotation lacks {error}")
        else:
            key = object_id(item.group, name)
            if key in objects:
                detail = f"annotation {name}: its id is another annotation's already"
                yield Rejected(annotations, ANNOTATION_BROKEN, detail)
            else:
                objects[key] = AnnotatedObject(key, CATEGORY, rle)
    yield AnnotatedPicture(
        item.group, picture.image, *picture.size, tuple(objects.values()), dropped
    )


def _parsed(content: bytes) -> tuple[tuple[int, int], list[Any]]:
    """The picture's (height, width), and the annotations."""
    found = parse_json(content)
    size = (found["image"]["height"], found["image"]["width"])
    if not isinstance(found["annotations"], list):
        raise TypeError('its "annotations" are no list')
    return size, found["annotations"]


def _annotated(folder: Location) -> bool:
    return any(f.name.startswith("sa_") and f.suffix == ".json" for f in folder.list_files())


def _stem(file: str) -> str:
    return file.rpartition(".")[0]
