"""Files that appear whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any


def write_text(text: str, path: Path) -> None:
    """Write a text file; the folder must exist."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(value, indent=2) + "\n", path)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file; the folder of the target must exist."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
