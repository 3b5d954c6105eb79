"""A folder a class, in a folder or in a ZIP file; with or without a folder a split above."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from search_spaces.errors import InputError
from trainables.channel_pruning.data.image_set import ImageSet, Pixels
from trainables.data.decode import to_rgb
from trainables.data.opening import UnreadablePicture, open_bytes
from trainables.data.readers.loading import PICTURES
from trainables.data.storage import check_bytes

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Files:
    """The files of a folder or a ZIP file.

    Args:
        place: of the folder or the ZIP file.
        names: paths below it, with `/`, sorted.
        read: a file's bytes.
    """

    place: Path
    names: tuple[str, ...]
    read: Callable[[str], bytes]


def files_of(place: Path) -> Files:
    """What is in a folder, a ZIP file, or a folder that holds nothing but one ZIP file.

    Raises:
        InputError: it is neither.
    """
    if place.is_dir():
        zips = [path for path in place.iterdir() if path.suffix == ".zip"]
        if len(zips) == 1 and not any(path.is_dir() for path in place.iterdir()):
            return files_of(zips[0])
        found = (path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
        names = tuple(sorted(name for name in found if _counts(name)))
        return Files(place, names, lambda name: (place / name).read_bytes())
    if not place.exists():
        raise InputError(f"data: {place} does not exist; give a folder or a ZIP file")
    try:
        archive = zipfile.ZipFile(place)  # stays open: its list of files is long to read
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"data: {place} is no folder and no ZIP file: {error}") from error
    entries = sorted(name for name in archive.namelist() if _counts(name))
    return Files(place, tuple(entries), partial(_unpacked, archive, place))


def _unpacked(archive: zipfile.ZipFile, place: Path, name: str) -> bytes:
    """An entry's bytes; zipfile unpacks no more of it than its header says.

    Raises:
        InputError: it is damaged, encrypted, or too large.
    """
    try:
        check_bytes(archive.getinfo(name).file_size)
        return archive.read(name)
    except Exception as error:  # damaged archives raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"data: {place / name} can't be unpacked: {reason}") from error


def class_folders(place: Path) -> dict[str, ImageSet]:
    """The splits that there are: `train`, `val`, `test`, or `all` where no folder names one.

    Classes are the folders' names, sorted; each split has all of them.

    Raises:
        InputError: there is no picture, a class has none in `train` (or `all`), or a split has a
            class that `train` lacks.
    """
    files = files_of(place)
    splits = _splits(files)
    first = splits.get("train", splits.get("all"))
    if first is None:
        raise InputError(f"data: {place} has no pictures to train with; put them into train/CLASS/")
    classes = tuple(sorted(first))
    found = {}
    for split, by_class in splits.items():
        unknown = sorted(set(by_class) - set(classes))
        if unknown:
            raise InputError(f"data: {place}: the class {unknown[0]} of {split} is not in train")
        pairs = [(name, number) for number, c in enumerate(classes) for name in by_class.get(c, ())]
        found[split] = image_set(files, classes, pairs)
    _check_folders(files, splits)
    return found


def image_set(files: Files, classes: Iterable[str], pairs: Iterable[tuple[str, int]]) -> ImageSet:
    """Pictures among files, given as (name, class number).

    Raises:
        InputError: a file is missing, there is no picture, or a class has none.
    """
    listed, known = tuple(classes), set(files.names)
    names: list[str] = []
    labels: list[int] = []
    for name, number in pairs:
        if name not in known:
            raise InputError(f"data: {files.place / name} is listed and does not exist")
        names.append(name)
        labels.append(number)
    if not names:
        raise InputError(f"data: {files.place} has no picture in the layout that it seems to have")

    def read(i: int) -> Pixels:
        return decoded(files.read(names[i]), f"{files.place / names[i]}")

    return ImageSet(listed, np.array(labels, np.int64), tuple(names), read)


def decoded(content: bytes, name: str) -> Pixels:
    """A picture's pixels, RGB [H, W, 3].

    Raises:
        InputError: it is damaged.
    """
    try:
        return to_rgb(open_bytes(content))
    except UnreadablePicture as error:
        raise InputError(f"data: {name} is no picture that can be read: {error}") from error


def _counts(name: str) -> bool:
    """Whether a file is one of the data set's: no folder, not hidden, not a Mac's own."""
    parts = PurePosixPath(name).parts
    return not name.endswith("/") and not any(p.startswith((".", "__MACOSX")) for p in parts)


def _splits(files: Files) -> dict[str, dict[str, list[str]]]:
    """For each split, for each class, its pictures."""
    spelt = {folder: split for split, folders in SPLIT_FOLDERS.items() for folder in folders}
    depth = _depth(files)
    found: dict[str, dict[str, list[str]]] = {}
    for name in files.names:
        parts = PurePosixPath(name).parts[depth:]
        if PurePosixPath(name).suffix.lower() not in PICTURES or len(parts) < 2:
            continue
        split = spelt.get(parts[0].lower(), "all")
        if split != "all" and len(parts) < 3:
            continue
        label = parts[0] if split == "all" else parts[1]
        found.setdefault(split, {}).setdefault(label, []).append(name)
    if len(found) > 1:
        found.pop("all", None)
    return found


def _depth(files: Files) -> int:
    """How many folders stand above all pictures: archives often have one of their own name."""
    paths = [PurePosixPath(name).parts for name in files.names]
    paths = [parts for parts in paths if PurePosixPath(parts[-1]).suffix.lower() in PICTURES]
    depth = 0
    while paths and all(len(parts) > depth + 2 for parts in paths):
        heads = {parts[depth] for parts in paths}
        if len(heads) > 1 or heads & {f for folders in SPLIT_FOLDERS.values() for f in folders}:
            break
        depth += 1
    return depth


def _check_folders(files: Files, splits: dict[str, dict[str, list[str]]]) -> None:
    """Complain about folders of classes that hold no picture.

    Raises:
        InputError: there is one.
    """
    if not files.place.is_dir():
        return
    for by_class in splits.values():
        some = next(name for names in by_class.values() for name in names)
        parent = files.place / PurePosixPath(some).parent.parent
        for folder in sorted(parent.iterdir()):
            if folder.is_dir() and folder.name not in by_class and _counts(folder.name):
                raise InputError(
                    f"data: the class folder {folder} holds no picture; put some in or remove it"
                )
