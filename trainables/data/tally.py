"""Keeping count while a data set is prepared: what is written, what is left out, and why."""

from collections import Counter
from collections.abc import Mapping

from search_spaces.errors import InputError
from trainables.data.chunks import ItemResult
from trainables.data.reader import Item, Rejected
from trainables.data.splits import SPLITS
from trainables.data.storage import Location
from trainables.data.summary import PrepareSummary, Rejection


class Tally:
    """The counts so far.

    Args:
        folder: the data set's, named in errors.
        limits: how many pictures a split holds at most, by name.
        strict: the first thing that can't be used is an error.
    """

    def __init__(self, folder: Location, limits: Mapping[str, int], strict: bool) -> None:
        self._folder, self._limits, self._strict = folder, limits, strict
        self._ids: set[str] = set()
        self._written = {split: Counter(pictures=0, objects=0) for split in SPLITS}
        self._dropped: dict[str, Counter[str]] = {"pictures": Counter(), "objects": Counter()}
        self.rejected: list[Rejected] = []

    def is_full(self, split: str) -> bool:
        """Whether a split holds all the pictures that it may."""
        limit = self._limits.get(split)
        return limit is not None and self._written[split]["pictures"] >= limit

    def reject(self, rejected: Rejected) -> None:
        """Note what can't be used.

        Raises:
            InputError: nothing may be rejected.
        """
        if self._strict:
            raise InputError(
                f"data: {self._folder / rejected.file}: {rejected.reason}: {rejected.detail}"
            )
        self.rejected.append(rejected)

    def note(self, result: ItemResult) -> None:
        """Note what one item had that was left out.

        Raises:
            InputError: nothing may be rejected.
        """
        for rejected in result.rejected:
            self.reject(rejected)
        for kind, reasons in result.dropped.items():
            self._dropped[kind].update(reasons)

    def over_the_limit(self, pictures: int) -> None:
        """Note pictures that a full split has no room for."""
        self._dropped["pictures"]["over the limit"] += pictures

    def takes(self, split: str, picture: str, objects: int, item: Item) -> bool:
        """Count a picture as one of a split's, unless the split is full or the id is taken.

        Raises:
            InputError: the id is taken, and nothing may be rejected.
        """
        if self.is_full(split):
            self.over_the_limit(1)
            return False
        if picture in self._ids:
            detail = f"{picture} is another picture's id too; ids must differ"
            self.reject(Rejected(item.group, "picture id used twice", detail))
            return False
        self._ids.add(picture)
        self._written[split].update(pictures=1, objects=objects)
        return True

    def check_not_empty(self, split: str) -> None:
        """Refuse a split without a picture.

        Raises:
            InputError: it has none; the message has what was left out so far.
        """
        if self._written[split]["pictures"]:
            return
        reasons = [
            f"{count} {what}: {why}" + (f" ({example})" if example else "")
            for what, why, count, example in self.summary(0).left_out()
        ]
        left_out = f"; left out were {', '.join(reasons)}" if reasons else ""
        raise InputError(
            f"data: {self._folder} leaves no picture for the {split} split; "
            f"add pictures or change the shares of the splits{left_out}"
        )

    def summary(self, seconds: float) -> PrepareSummary:
        """The counts as they are, after so many seconds."""
        dropped = {
            kind: {reason: count for reason, count in sorted(reasons.items()) if count}
            for kind, reasons in self._dropped.items()
        }
        examples: dict[str, str] = {}
        for rejected in self.rejected:
            examples.setdefault(rejected.reason, f"{rejected.file}: {rejected.detail}")
        counts = Counter(rejected.reason for rejected in self.rejected)
        written = {split: dict(counts) for split, counts in self._written.items()}
        pictures = sum(split["pictures"] for split in written.values())
        return PrepareSummary(
            splits=written,
            dropped=dropped,
            rejected={reason: Rejection(counts[reason], examples[reason]) for reason in examples},
            seconds=seconds,
            pictures_per_second=pictures / seconds if seconds else None,
        )
