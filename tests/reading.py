"""What the tests of the readers share."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow import fs
from pycocotools import mask as coco_mask

from trainables.data.reader import (
    AnnotatedObject,
    AnnotatedPicture,
    Item,
    Reader,
    ReadOptions,
    Rejected,
)
from trainables.data.storage import Location


def read_all(
    reader: Reader, folder: Path | Location, options: ReadOptions | None = None
) -> tuple[dict[str, AnnotatedPicture], list[Rejected]]:
    """All pictures by id, and all that was rejected."""
    place, options = Location.at(folder), options or ReadOptions()
    pictures: dict[str, AnnotatedPicture] = {}
    rejected = []
    objects = set()
    for item in reader.items(place, options):
        found = list(reader.read(place, item, options)) if isinstance(item, Item) else [item]
        for entry in found:
            if isinstance(entry, Rejected):
                assert "\n" not in entry.detail
                assert entry.detail
                rejected.append(entry)
                continue
            assert entry.id not in pictures
            pictures[entry.id] = entry
            for each in entry.objects:
                assert each.rle["size"] == [entry.height, entry.width]
                assert isinstance(each.rle["counts"], bytes)
                assert 0 <= each.id < 2**63
                assert each.id not in objects
                objects.add(each.id)
    return pictures, rejected


def elsewhere(folder: Path) -> Location:
    """The folder on a file system whose paths begin without a slash, as those of stores do."""
    return Location(fs.SubTreeFileSystem(str(folder.parent), fs.LocalFileSystem()), folder.name)


def mask_of(found: AnnotatedObject) -> NDArray[np.bool_]:
    return coco_mask.decode(found.rle).astype(np.bool_)


def pixels_of(picture: AnnotatedPicture) -> NDArray[np.uint8]:
    opened = Image.open(io.BytesIO(picture.image))
    assert opened.mode in ("L", "RGB")
    assert (opened.height, opened.width) == (picture.height, picture.width)
    return np.asarray(opened)


def reasons(rejected: list[Rejected]) -> list[tuple[str, str]]:
    return [(entry.file, entry.reason) for entry in rejected]


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def real_data(name: str) -> Path:
    """A folder of real data; skips the test where there is none."""
    root = os.environ.get("SUPERSAM_DATA")
    if root is None or not (Path(root) / name).is_dir():
        pytest.skip(f"SUPERSAM_DATA names no folder with {name}/")
    return Path(root) / name


def runs_of(mask):
    """Run lengths down the columns, zeros first."""
    flat = np.concatenate([[0], mask.ravel(order="F"), [2]]).astype(int)
    edges = np.flatnonzero(np.diff(flat[1:])) + 1
    runs = np.diff(np.concatenate([[0], edges])).tolist()
    return [0, *runs] if mask[0, 0] else runs


def compressed(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}
