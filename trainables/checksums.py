"""Checksums of the files in a folder, by which damage to them is found."""

import hashlib
import json
from pathlib import Path

from trainables.json_text import parse_table

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Write `checksums.json`, the SHA-256 of each file that is in the folder."""
    sums = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n")


def damaged_files(folder: Path) -> list[str]:
    """Names of the files that are missing or not as they were written; none: all is well."""
    path = folder / CHECKSUMS
    try:
        sums = parse_table(path.read_bytes())
    except (OSError, ValueError):
        return [CHECKSUMS]
    if any(Path(name).name != name for name in sums):
        return [CHECKSUMS]
    found = {name: folder / name for name in sums}
    return [
        name for name, file in found.items() if not file.is_file() or _sha256(file) != sums[name]
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
