"""Tiny-ImageNet, DTD, Stanford Cars and Food-101 as published, unpacked.

Each function says whether a folder has its layout, by a file that only that data set has, and reads
it: classes, and for each split the pictures with their classes' numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from search_spaces.errors import InputError
from trainables.channel_pruning.data.class_folders import Files, files_of, image_set
from trainables.channel_pruning.data.image_set import ImageSet

Pairs = list[tuple[str, int]]


@dataclass(frozen=True)
class Published:
    """A published layout.

    Args:
        mark: a file that tells it from the others.
        read: from the folder's files to its splits.
    """

    mark: str
    read: Callable[[Files], dict[str, ImageSet]]


def tiny_imagenet(files: Files) -> dict[str, ImageSet]:
    """`train`, and `val` as `test`: the labels of its test pictures are not published."""
    classes = _lines(files, "wnids.txt")
    number = {name: i for i, name in enumerate(classes)}
    train = [
        (name, _number(files, number, name.split("/")[1]))
        for name in files.names
        if name.startswith("train/") and name.endswith(".JPEG")
    ]
    rows = [line.split("\t") for line in _lines(files, "val/val_annotations.txt")]
    test = [(f"val/images/{row[0]}", _number(files, number, row[1])) for row in rows]
    return _sets(files, classes, {"train": train, "test": test})


def dtd(files: Files) -> dict[str, ImageSet]:
    """The first of its ten splits."""
    lists = {split: _lines(files, f"labels/{split}1.txt") for split in ("train", "val", "test")}
    return _listed(files, lists, "images/", "")


def food101(files: Files) -> dict[str, ImageSet]:
    """`train` and `test`."""
    lists = {split: _lines(files, f"meta/{split}.txt") for split in ("train", "test")}
    return _listed(files, lists, "images/", ".jpg")


def stanford_cars(files: Files) -> dict[str, ImageSet]:
    """`train` and `test`; the labels of `test` come in a file of their own beside the devkit."""
    meta = _mat(files, "devkit/cars_meta.mat")
    classes = [str(name[0]) for name in meta["class_names"][0]]
    test = "cars_test_annos_withlabels.mat"
    labels = test if test in files.names else f"devkit/{test}"
    return _sets(
        files,
        classes,
        {
            "train": _cars(files, "devkit/cars_train_annos.mat", "cars_train/"),
            "test": _cars(files, labels, "cars_test/"),
        },
    )


PUBLISHED = {
    "Tiny-ImageNet": Published("wnids.txt", tiny_imagenet),
    "DTD": Published("labels/train1.txt", dtd),
    "Food-101": Published("meta/train.txt", food101),
    "Stanford Cars": Published("devkit/cars_meta.mat", stanford_cars),
}


def recognises(folder: Path) -> bool:
    """Whether a folder has one of these layouts."""
    return _layout(folder) is not None


def read(folder: Path) -> dict[str, ImageSet]:
    """Its splits.

    Raises:
        InputError: something that is listed is missing, or a list is damaged.
    """
    layout = _layout(folder)
    if layout is None:
        raise InputError(f"data: {folder} has none of the layouts {', '.join(PUBLISHED)}")
    return layout.read(files_of(folder))


def _layout(folder: Path) -> Published | None:
    found = (layout for layout in PUBLISHED.values() if (folder / layout.mark).is_file())
    return next(found, None)


def _listed(
    files: Files, lists: dict[str, list[str]], before: str, after: str
) -> dict[str, ImageSet]:
    """Lists of `CLASS/PICTURE`."""
    classes = sorted({line.split("/")[0] for lines in lists.values() for line in lines})
    number = {name: i for i, name in enumerate(classes)}
    pairs = {
        split: [(f"{before}{line}{after}", number[line.split("/")[0]]) for line in lines]
        for split, lines in lists.items()
    }
    return _sets(files, classes, pairs)


def _sets(files: Files, classes: Iterable[str], pairs: dict[str, Pairs]) -> dict[str, ImageSet]:
    return {split: image_set(files, classes, found) for split, found in pairs.items()}


def _lines(files: Files, name: str) -> list[str]:
    if name not in files.names:
        raise InputError(f"data: {files.place / name} does not exist")
    return [line for line in files.read(name).decode().splitlines() if line.strip()]


def _number(files: Files, numbers: dict[str, int], name: str) -> int:
    if name not in numbers:
        raise InputError(f"data: {files.place}: {name} is no class of its list")
    return numbers[name]


def _mat(files: Files, name: str) -> dict[str, Any]:
    if name not in files.names:
        raise InputError(f"data: {files.place / name} does not exist")
    try:
        return dict(loadmat(str(files.place / name)))
    except Exception as error:  # scipy raises nearly anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"data: {files.place / name} can't be read: {reason}") from error


def _cars(files: Files, name: str, folder: str) -> Pairs:
    """Rows of MATLAB's table; classes are counted from 1."""
    rows = _mat(files, name)["annotations"][0]
    fields = rows.dtype.names or ()
    if "class" not in fields:
        raise InputError(f"data: {files.place / name} has no classes; give the one with labels")
    return [(f"{folder}{row['fname'][0]}", int(row["class"][0][0]) - 1) for row in rows]
