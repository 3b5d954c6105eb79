"""What preparing a data set came to: what was written, what was left out, and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from search_spaces.errors import InputError
from trainables.data.splits import SPLITS
from trainables.data.storage import Location
from trainables.json_text import parse_table

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Rejection:
    """How often a mistake was found, and the first place where it was."""

    count: int
    example: str


@dataclass(frozen=True)
class PrepareSummary:
    """The counts of a prepared data set.

    Args:
        splits: for each split, how many `pictures` and `objects` it holds.
        dropped: for `pictures` and for `objects`, how many were left out on purpose, by reason.
        rejected: what should have been usable and was not, by reason.
        seconds: what preparing took; None where the splits came prepared.
        pictures_per_second: pictures written.
    """

    splits: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    seconds: float | None = None
    pictures_per_second: float | None = None

    def left_out(self) -> list[tuple[str, str, int, str]]:
        """What was left out, why, how often, and for what can't be used the first example."""
        dropped = [
            (kind, reason, count, "")
            for kind, reasons in self.dropped.items()
            for reason, count in reasons.items()
        ]
        rejected = [
            ("rejected", reason, found.count, found.example)
            for reason, found in self.rejected.items()
        ]
        return dropped + rejected

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PrepareSummary":
        """From what `to_dict` gave."""
        rejected = {reason: Rejection(**found) for reason, found in values["rejected"].items()}
        return cls(**{**values, "rejected": rejected})


def read_summary(folder: Location) -> PrepareSummary:
    """The summary of a prepared data set; where none was written, the splits are counted."""
    written = folder / SUMMARY
    if written.is_file():
        try:
            return PrepareSummary.from_dict(parse_table(written.read()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"data: {written} is no summary of a data set: {error!r}") from error
    return PrepareSummary({split: _counts(folder / f"{split}.parquet") for split in SPLITS})


def _counts(split: Location) -> dict[str, int]:
    with split.open() as opened:
        file = pq.ParquetFile(opened)
        objects = 0
        for group in range(file.num_row_groups):  # one at a time: a split may not fit in memory
            column = file.read_row_group(group, columns=["objects.list.element.id"])["objects"]
            objects += pc.sum(pc.list_value_length(column)).as_py() or 0
        return {"pictures": file.metadata.num_rows, "objects": objects}
