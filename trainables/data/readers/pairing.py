"""Pictures and their maps in two folders, paired by the name without its suffix."""

from collections.abc import Iterator
from dataclasses import dataclass

from trainables.data.reader import ANNOTATION_MISSING, ANNOTATION_ORPHAN, NAME_TWICE, Rejected
from trainables.data.storage import Location


@dataclass(frozen=True)
class Pair:
    """A picture and its map: paths below the data set's folder, and the name that they share."""

    stem: str
    picture: str
    label: str


def paired(folder: Location, pictures: str, labels: str) -> Iterator[Pair | Rejected]:
    """Pair the files of two folders, ordered by name.

    What has no partner is rejected, and all files of a name where one alone can be meant.

    Args:
        folder: the data set's.
        pictures: the pictures' folder, below it.
        labels: the maps' folder, below it.
    """
    sides = by_stem(folder, pictures), by_stem(folder, labels)
    for stem in sorted(sides[0] | sides[1]):
        images, maps = (side.get(stem, []) for side in sides)
        if len(images) == len(maps) == 1:
            yield Pair(stem, images[0], maps[0])
        elif not maps:
            detail = f"there is no {labels}/{stem}.*"
            yield from (Rejected(file, ANNOTATION_MISSING, detail) for file in images)
        elif not images:
            detail = f"there is no {pictures}/{stem}.*"
            yield from (Rejected(file, ANNOTATION_ORPHAN, detail) for file in maps)
        else:
            yield from several_of_a_name(images)
            yield from several_of_a_name(maps)


def by_stem(folder: Location, below: str) -> dict[str, list[str]]:
    """The files of a folder, as paths below the data set's, by their name without its suffix."""
    found: dict[str, list[str]] = {}
    for file in (folder / below).list_files():
        found.setdefault(file.stem, []).append(f"{below}/{file.name}")
    return found


def several_of_a_name(files: list[str]) -> Iterator[Rejected]:
    """Reject files of the same name and different suffixes; nothing where there is but one."""
    for file in files if len(files) > 1 else []:
        others = ", ".join(other for other in files if other != file)
        yield Rejected(file, NAME_TWICE, f"so is {others}; one alone can be meant")
