"""Checksums of the files in a folder, and of a Parquet file's footer, by which damage is found."""

import hashlib
import io
import json
import re
from pathlib import Path
from typing import BinaryIO

from trainables.json_text import parse_table

CHECKSUMS = "checksums.json"
UNSEALED = {"footer-sha256": "0" * 64}
"""What a Parquet table's metadata must hold before its footer can be sealed."""
SEAL = re.compile(rb"footer-sha256.{1,4}?([0-9a-f]{64})", re.DOTALL)


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


def seal_footer(path: Path) -> None:
    """Put the checksum of a Parquet file's footer, which Parquet itself has none of, into it.

    Args:
        path: its metadata holds `UNSEALED`.
    """
    with path.open("r+b") as file:
        start, footer = _footer(file)
        if (place := SEAL.search(footer)) is None:
            raise ValueError(f"{path} has no place for a checksum of its footer")
        file.seek(start + place.start(1))
        file.write(_sha256_unsealed(footer, place))


def is_footer_sound(content: bytes) -> bool:
    """Whether a Parquet file's footer is as it was sealed; one that has no seal may be."""
    _, footer = _footer(io.BytesIO(content))
    place = SEAL.search(footer)
    return place is None or place[1] == _sha256_unsealed(footer, place)


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where it begins, and its bytes up to the end of the file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    start = max(0, size - 8 - int.from_bytes(file.read(4), "little"))
    file.seek(start)
    return start, file.read()


def _sha256_unsealed(footer: bytes, place: re.Match[bytes]) -> bytes:
    empty = footer[: place.start(1)] + b"0" * 64 + footer[place.end(1) :]
    return hashlib.sha256(empty).hexdigest().encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
