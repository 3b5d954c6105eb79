"""The three splits, and the rule that puts pictures into them."""

import hashlib
from dataclasses import dataclass

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitRule:
    """Which split a picture belongs to: a function of its group and the seed alone.

    Adding pictures moves none of those that were there.
    """

    val: float = 0.15
    test: float = 0.2
    seed: int = 0

    def rank(self, group: str) -> float:
        """A number in [0, 1), fixed by the group and the seed."""
        digest = hashlib.blake2b(f"{self.seed}/{group}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64

    def split(self, group: str) -> str:
        """The split of a group's pictures."""
        rank = self.rank(group)
        if rank < self.test:
            return "test"
        return "val" if rank < self.test + self.val else "train"
