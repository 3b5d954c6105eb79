"""Checksums of the files in a folder, and of a Parquet file's footer, by which damage is found."""

import hashlib
import io
import json
import re
from pathlib import Path
from typing import BinaryIO

from trainables.json_text import parse_table

CHECKSUMS = "checksums.json"
PLACE, SUM = 16, 64
"""Digits of a seal: where the footer begins, and its SHA-256."""
UNSEALED = {"footer-seal": "0" * (PLACE + SUM)}
"""What a Parquet table's metadata must hold before its footer can be sealed."""
SEAL = re.compile(rb"footer-seal.{1,4}?([0-9a-f]{%d})" % (PLACE + SUM), re.DOTALL)


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
        file.seek(start)
        file.write(_sealed(start, footer))


def sealed_end(before: int, end: bytes) -> bytes:
    """The end of a Parquet file with its footer sealed; see `seal_footer`.

    Args:
        before: so many bytes of the file stand before it.
        end: the footer, and maybe some bytes before it.
    """
    start, footer = _footer(io.BytesIO(end))
    return end[:start] + _sealed(before + start, footer)


def is_footer_sound(file: BinaryIO) -> bool:
    """Whether a Parquet file's footer is as it was sealed.

    One that has no seal may be, or that has another file's: who writes a table that was read writes
    what it held, seal included.
    """
    start, footer = _footer(file)
    place = SEAL.search(footer)
    if place is None or not place[1].startswith(_digits(start)):
        return True
    return footer == _sealed(start, footer)


def _sealed(start: int, footer: bytes) -> bytes:
    if (place := SEAL.search(footer)) is None:
        raise ValueError("a Parquet file has no place for a seal of its footer")
    before, behind = footer[: place.start(1)], footer[place.end(1) :]
    found = hashlib.sha256(before + b"0" * (PLACE + SUM) + behind).hexdigest()
    return before + _digits(start) + found.encode() + behind


def _digits(start: int) -> bytes:
    return f"{start:0{PLACE}x}".encode()


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where it begins, and its bytes up to the end of the file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    start = max(0, size - 8 - int.from_bytes(file.read(4), "little"))
    file.seek(start)
    return start, file.read()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
