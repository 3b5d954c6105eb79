"""CIFAR-10 and CIFAR-100 as published: the `python` archives and the binary ones, unpacked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError
from trainables.channel_pruning.data.image_set import ImageSet, Pixels
from trainables.channel_pruning.data.pickled_table import Array, read_table
from trainables.data.storage import Location

SIDE = 32
_PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class Layout:
    """How one of the archives looks.

    Args:
        train: its training files.
        test: its test file.
        classes: the file with the classes' names.
        key: under which the `python` files have the labels, and the names.
        before: bytes of labels before each picture in the binary files; the last counts.
    """

    train: tuple[str, ...]
    test: str
    classes: str
    key: tuple[str, str] = ("", "")
    before: int = 0


LAYOUTS = {
    "cifar10": Layout(
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        "batches.meta",
        key=("labels", "label_names"),
    ),
    "cifar100": Layout(("train",), "test", "meta", key=("fine_labels", "fine_label_names")),
    "cifar10_binary": Layout(
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test_batch.bin",
        "batches.meta.txt",
        before=1,
    ),
    "cifar100_binary": Layout(("train.bin",), "test.bin", "fine_label_names.txt", before=2),
}


def layout_of(folder: Path) -> Layout | None:
    """The layout that a folder has, if it is one of CIFAR's."""
    for layout in LAYOUTS.values():
        if all((folder / file).is_file() for file in (*layout.train, layout.test, layout.classes)):
            return layout
    return None


def recognises(folder: Path) -> bool:
    """Whether a folder is an unpacked CIFAR archive."""
    return layout_of(folder) is not None


def read(folder: Path) -> dict[str, ImageSet]:
    """`train` and `test`.

    Raises:
        InputError: a file is damaged.
    """
    layout = layout_of(folder)
    if layout is None:
        raise InputError(f"data: {folder} is no unpacked CIFAR archive")
    classes = _classes(folder / layout.classes, layout)
    return {
        "train": _split(folder, layout, layout.train, classes),
        "test": _split(folder, layout, (layout.test,), classes),
    }


def _split(
    folder: Path, layout: Layout, files: tuple[str, ...], classes: tuple[str, ...]
) -> ImageSet:
    parts = [_file(folder / file, layout) for file in files]
    labels = np.concatenate([labels for _, labels in parts])
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise InputError(f"data: {folder / files[0]} has a label that is no class's number")
    flat = np.concatenate([pixels for pixels, _ in parts])
    # Stored plane by plane: red, green, blue.
    pixels: Pixels = np.ascontiguousarray(flat.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    counts = [len(labels) for _, labels in parts]
    names = [f"{file}/{i}" for file, n in zip(files, counts, strict=True) for i in range(n)]

    def picture(i: int) -> Pixels:
        return np.asarray(pixels[i])

    return ImageSet(classes, labels, tuple(names), picture)


def _file(path: Path, layout: Layout) -> tuple[Pixels, NDArray[np.int64]]:
    """Pixels [N, 3072] and labels [N]."""
    if layout.before:
        rows = np.fromfile(path, np.uint8)
        if not len(rows) or len(rows) % (layout.before + _PIXELS):
            raise InputError(
                f"data: {path} is damaged: its size is no multiple of {layout.before + _PIXELS}"
            )
        rows = rows.reshape(-1, layout.before + _PIXELS)
        return rows[:, layout.before :], rows[:, layout.before - 1].astype(np.int64)
    content = _unpickled(path)
    pixels, labels = content.get("data"), content.get(layout.key[0])
    if (
        not isinstance(pixels, Array)
        or not isinstance(labels, list)
        or not all(type(label) is int and 0 <= label < 256 for label in labels)
        or pixels.values.shape != (len(labels), _PIXELS)
    ):
        raise InputError(f"data: {path} is damaged: no pictures of {_PIXELS} bytes with labels")
    return pixels.values, np.array(labels, np.int64)


def _classes(path: Path, layout: Layout) -> tuple[str, ...]:
    if layout.before:
        return tuple(path.read_text().split())
    names = _unpickled(path).get(layout.key[1])
    if not isinstance(names, list):
        raise InputError(f"data: {path} is damaged: no names of classes")
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        content = Location.at(path).read()
        return read_table(content)
    except Exception as error:  # damaged pickles raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"data: {path} can't be read: {reason}") from error
