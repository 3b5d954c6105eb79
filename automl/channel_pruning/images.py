"""The data set within a study: pictures decoded and brought to their size once, split by split.

Each split is one array that every process maps into memory: 3 S² bytes a picture. Pictures lie in
an order by chance, the same for every study: so the first of a split are some of every class.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from automl.files import write_json, written_whole
from automl.ledger import read_rows, write_rows
from trainables.channel_pruning.data.image_set import ImageSet, squared
from trainables.data.splits import SplitRule

PICTURES = "pictures.parquet"
"""Written last: then the splits are whole."""
CLASSES = "classes.json"
SCHEMA = pa.schema([("split", pa.string()), ("name", pa.string()), ("label", pa.int64())])


def write_images(splits: dict[str, ImageSet], image_size: int, folder: Path) -> Iterator[int]:
    """Write all splits into a folder.

    Yields:
        Pictures done, after each.

    Raises:
        InputError: a picture is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, done, rule = [], 0, SplitRule()
    for split, found in splits.items():
        images = found.subset(sorted(range(len(found)), key=lambda i: rule.rank(found.names[i])))
        with written_whole(folder / f"{split}.npy") as temporary:
            shape = (len(images), image_size, image_size, 3)
            pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            for i in range(len(images)):
                pixels[i] = squared(images.read(i), image_size)
                done += 1
                yield done
            pixels.flush()
        rows += [
            {"split": split, "name": name, "label": int(label)}
            for name, label in zip(images.names, images.labels, strict=True)
        ]
    write_json(list(next(iter(splits.values())).classes), folder / CLASSES)
    write_rows(rows, folder / PICTURES, SCHEMA)


def read_split(folder: Path, split: str, most: int | None = None) -> ImageSet:
    """A split that `write_images` wrote.

    Args:
        folder: of the data.
        split: train, val or test.
        most: pictures; None: all.
    """
    rows = [row for row in read_rows(folder / PICTURES) if row["split"] == split][:most]
    pixels = np.load(folder / f"{split}.npy", mmap_mode="r")
    return ImageSet(
        tuple(json.loads((folder / CLASSES).read_text())),
        np.array([row["label"] for row in rows], np.int64),
        tuple(row["name"] for row in rows),
        lambda i: np.asarray(pixels[i]),
    )
