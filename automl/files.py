"""Files that appear whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write a file, which takes its own where nothing fails; else nothing is left."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(text: str, path: Path) -> None:
    """Write a text file; the folder must exist."""
    with written_whole(path) as temporary:
        temporary.write_text(text)


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(value, indent=2) + "\n", path)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file; the folder of the target must exist."""
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)
