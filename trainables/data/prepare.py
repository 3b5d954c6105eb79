"""From a data set's own layout to `train.parquet`, `val.parquet` and `test.parquet`."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from search_spaces.errors import InputError
from trainables.data import label_maps
from trainables.data.table import ObjectMask, object_row, write_table

SPLITS = ("train", "val", "test")
READERS: dict[str, ModuleType] = {"label_maps": label_maps}
"""Layouts by name; each module has `recognises(folder)` and `read(folder)`."""


@dataclass(frozen=True)
class SplitRule:
    """Which split a picture belongs to: a function of its id and the seed alone.

    Adding pictures moves none of those that were there.
    """

    val: float = 0.15
    test: float = 0.2
    seed: int = 0

    def rank(self, picture: str) -> float:
        """A number in [0, 1), fixed by the id and the seed."""
        digest = hashlib.blake2b(f"{self.seed}/{picture}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def split(self, picture: str) -> str:
        """The split of a picture."""
        rank = self.rank(picture)
        if rank < self.test:
            return "test"
        return "val" if rank < self.test + self.val else "train"


def prepare(
    source: Path,
    output: Path,
    *,
    rule: SplitRule,
    layout: str | None = None,
    min_area: int = 16,
    max_side: int | None = None,
    limits: dict[str, int] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, int]]:
    """Read a data set and write its three splits.

    Args:
        source: the data set's folder.
        output: the folder for the Parquet files; made if missing.
        rule: how pictures are split.
        layout: a name of `READERS`; recognised by what is there if not given.
        min_area: objects of fewer pixels are left out.
        max_side: pictures with a longer side, in pixels, are left out.
        limits: how many pictures a split holds at most, by name.
        progress: told the number of pictures read so far.

    Returns:
        For each split, and for what was left out, the counts by name.

    Raises:
        InputError: the layout is not recognised, a picture or label can't be read, or a split
            would be empty.
    """
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    left_out: Counter[str] = Counter()
    for done, (picture, path, objects) in enumerate(_reader(source, layout)(source), start=1):
        progress(done)
        row = _picture_row(picture, path, objects, min_area, max_side, left_out)
        if row is not None:
            rows[rule.split(picture)].append(row)
    counts = {}
    for split in SPLITS:
        chosen = sorted(rows[split], key=lambda row: rule.rank(row["id"]))
        limit = (limits or {}).get(split, len(chosen))
        left_out["pictures over the limit"] += max(0, len(chosen) - limit)
        rows[split] = chosen[:limit]
        if not rows[split]:
            raise InputError(
                f"data: {source} leaves no picture for the {split} split; "
                "add pictures or change the shares of the splits"
            )
    output.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        write_table(rows[split], output / f"{split}.parquet")
        counts[split] = {
            "pictures": len(rows[split]),
            "objects": sum(len(row["objects"]) for row in rows[split]),
        }
    return {**counts, "left out": dict(left_out)}


def _reader(
    source: Path, layout: str | None
) -> Callable[[Path], Iterator[tuple[str, Path, list[ObjectMask]]]]:
    if not source.is_dir():
        raise InputError(f"data: {source} is no folder")
    if layout is not None and layout not in READERS:
        raise InputError(f"format: {layout!r} is unknown; choose from {', '.join(READERS)}")
    names = [layout] if layout else [n for n, m in READERS.items() if m.recognises(source)]
    if len(names) != 1:
        raise InputError(
            f"data: the layout of {source} is not recognised; a folder of pictures with instance "
            "label maps has images/NAME.png and labels/NAME.png"
        )
    reader: Callable[[Path], Iterator[tuple[str, Path, list[ObjectMask]]]]
    reader = READERS[names[0]].read
    return reader


def _picture_row(
    picture: str,
    path: Path,
    objects: list[ObjectMask],
    min_area: int,
    max_side: int | None,
    left_out: Counter[str],
) -> dict[str, Any] | None:
    with label_maps.open_picture(path) as opened:
        width, height = opened.size
    if max_side is not None and max(width, height) > max_side:
        left_out["pictures too large"] += 1
        return None
    rows = [object_row(item) for item in objects]
    kept = [row for row in rows if row["area"] >= min_area]
    left_out["objects too small"] += len(rows) - len(kept)
    if not kept:
        left_out["pictures without objects"] += 1
        return None
    return {
        "id": picture,
        "image": path.read_bytes(),
        "height": height,
        "width": width,
        "objects": kept,
    }
