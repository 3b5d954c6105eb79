"""Whether a checkpoint has a model's tensors."""

from collections.abc import Collection
from pathlib import Path

from search_spaces.errors import InputError


def check_names(model: str, path: Path, found: Collection[str], wanted: Collection[str]) -> None:
    """Refuse a checkpoint with other tensors than a model has.

    Raises:
        InputError: names are missing or unknown.
    """
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    for what, names in (("lacks", missing), ("has unknown", extra)):
        if names:
            raise InputError(
                f"checkpoint: {path} is no {model}: it {what} {names[0]} "
                f"({len(names)} such of {len(wanted)} tensors)"
            )
