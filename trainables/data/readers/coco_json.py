"""COCO's JSON, read as a stream: what is kept takes about as much memory as the file is long."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ijson

from trainables.data.json_depth import DEEPEST, Depth
from trainables.data.storage import Location

CHUNK = 1 << 16
"""Bytes."""
FIRST_BYTES = 1 << 20
"""As much of a file is looked at to recognise it."""


class BrokenJson(ValueError):
    """It is no JSON, or is cut off, or holds nothing of COCO's. One line says why."""


@dataclass(frozen=True)
class CocoImage:
    """An entry of "images": the picture's name, and its (height, width) if that is given."""

    file_name: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class CocoAnnotation:
    """An entry of "annotations", with what else the reader needs of it as JSON in `content`."""

    image_id: Any
    category_id: Any
    content: bytes


@dataclass(frozen=True)
class CocoFile:
    """What one file holds.

    Args:
        images: by their id.
        annotations: as they come.
        categories: names by id.
        mistakes: a line for each entry that is left out because it can't be understood.
    """

    images: dict[Any, CocoImage]
    annotations: list[CocoAnnotation]
    categories: dict[Any, str]
    mistakes: list[str]


def parse(file: Location) -> CocoFile:
    """Read a file to its end.

    Raises:
        BrokenJson: it is no JSON, is cut off, or lists neither "images" nor "annotations".
    """
    found = CocoFile({}, [], {}, [])
    seen = set()
    for section, entry in _entries(file):
        seen.add(section)
        try:
            _ADD[section](found, entry)
        except (KeyError, TypeError, ValueError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else f"is wrong: {error}"
            found.mistakes.append(f"an entry of {section!r} {what}")
    if not seen & {"images", "annotations"}:
        raise BrokenJson('it lists no "images" and no "annotations"')
    return found


def looks_like_coco(file: Location) -> bool:
    """Whether a section of COCO's is found in a file's first part; quick.

    A file of SA-1B has "annotations" too, but "image" before them.
    """
    events = ijson.sendable_list()
    parser = ijson.parse_coro(events)
    try:
        for chunk in _chunks(file, FIRST_BYTES):
            parser.send(chunk)
            for prefix, event, value in events:
                if (prefix, event) == ("", "map_key") and value in {"image", *_ADD}:
                    return bool(value != "image")
            del events[:]
    except (ijson.JSONError, BrokenJson):
        return False
    return False


def _entries(file: Location) -> Iterator[tuple[str, Any]]:
    """The entries of the three sections, whatever their order in the file."""
    sections = {name: ijson.sendable_list() for name in _ADD}
    parsers = [
        ijson.items_coro(entries, f"{name}.item", use_float=True)
        for name, entries in sections.items()
    ]
    try:
        for chunk in _chunks(file):
            for parser in parsers:
                parser.send(chunk)
            for name, entries in sections.items():
                yield from ((name, entry) for entry in entries)
                del entries[:]
        for parser in parsers:
            parser.close()
    except BrokenJson:
        raise
    except (ijson.JSONError, ValueError) as error:  # of a text, of a number
        # yajl draws an arrow under an excerpt on further lines
        raise BrokenJson(str(error.args[0]).splitlines()[0].strip("b'\"")) from error


def _chunks(file: Location, limit: int | None = None) -> Iterator[bytes]:
    depth = Depth()
    with file.open() as opened:
        while (limit is None or opened.tell() < limit) and (chunk := opened.read(CHUNK)):
            if depth.deepest(chunk) > DEEPEST:
                raise BrokenJson(f"it is nested more than {DEEPEST} deep")
            yield chunk


def _add_image(found: CocoFile, entry: Any) -> None:
    name = entry["file_name"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"its file_name is {name!r}")
    size = entry.get("height"), entry.get("width")
    if found.images.setdefault(_id(entry["id"]), image := CocoImage(name, _size(*size))) != image:
        raise ValueError(f"its id {entry['id']} is another picture's already")


def _add_annotation(found: CocoFile, entry: Any) -> None:
    kept = {key: entry[key] for key in ("id", "iscrowd", "segmentation") if key in entry}
    content = json.dumps(kept, separators=(",", ":")).encode()
    annotation = CocoAnnotation(_id(entry["image_id"]), _id(entry["category_id"]), content)
    found.annotations.append(annotation)


def _add_category(found: CocoFile, entry: Any) -> None:
    found.categories[_id(entry["id"])] = str(entry["name"])


_ADD = {"images": _add_image, "annotations": _add_annotation, "categories": _add_category}


def _id(value: Any) -> int | str:
    if not isinstance(value, int | str):
        raise ValueError(f"its id {value!r} is neither a number nor a text")
    return value


def _size(height: Any, width: Any) -> tuple[int, int] | None:
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None
