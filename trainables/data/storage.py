"""Folders and files on any file system that pyarrow knows: local paths, `s3://…`, `gs://…`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from search_spaces.errors import InputError

MOST_BYTES = 1 << 30
"""Of a file that is read whole: a picture, its annotations. Others are read as streams."""


class FileTooLarge(ValueError):
    """A file, or what an archive would unpack, is too large to be read whole. One line says so."""


def check_bytes(size: int) -> None:
    """Refuse to read so many bytes at once.

    Raises:
        FileTooLarge: they are more than `MOST_BYTES`.
    """
    if size > MOST_BYTES:
        raise FileTooLarge(f"it has {size:,} bytes; at most {MOST_BYTES:,} are read")


@dataclass(frozen=True)
class Location:
    """A place on a file system; it may be a file, a folder, or nothing yet.

    Args:
        files: pyarrow's file system.
        path: absolute within it.
    """

    files: fs.FileSystem
    path: str

    @classmethod
    def at(cls, place: "str | Path | Location") -> "Location":
        """From a local path or a URI.

        Raises:
            InputError: the URI's scheme is unknown, or it can't be understood.
        """
        if isinstance(place, Location):
            return place
        text = str(place)
        if "://" not in text:
            return cls(fs.LocalFileSystem(), Path(text).expanduser().absolute().as_posix())
        try:
            return cls(*fs.FileSystem.from_uri(text))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{text} is no place that can be read: {reason}") from error

    def __truediv__(self, name: str) -> "Location":
        return Location(self.files, f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        scheme = "" if isinstance(self.files, fs.LocalFileSystem) else f"{self.files.type_name}://"
        return f"{scheme}{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """The last suffix in lower case, with its dot."""
        return PurePosixPath(self.path).suffix.lower()

    @property
    def parent(self) -> "Location":
        """The folder that this is in."""
        return Location(self.files, PurePosixPath(self.path).parent.as_posix())

    def is_file(self) -> bool:
        """Whether there is a file here."""
        return bool(self._info().type == fs.FileType.File)

    def is_folder(self) -> bool:
        """Whether there is a folder here."""
        return bool(self._info().type == fs.FileType.Directory)

    def _info(self) -> fs.FileInfo:
        return self.files.get_file_info([self.path])[0]

    def list(self, recursive: bool = False) -> "Sequence[Location]":
        """What a folder holds, files and folders, ordered by path; nothing where there is none."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found = sorted(info.path for info in self._infos(selector))
        return [Location(self.files, path) for path in found]

    def list_files(self, recursive: bool = False) -> "Sequence[Location]":
        """As `list`, files alone; names that begin with a dot are left out."""
        selector = fs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        found = [i.path for i in self._infos(selector) if i.type == fs.FileType.File]
        return [
            Location(self.files, path)
            for path in sorted(found)
            if not PurePosixPath(path).name.startswith(".")
        ]

    def _infos(self, selector: fs.FileSelector) -> Sequence[fs.FileInfo]:
        infos: Sequence[fs.FileInfo] = self.files.get_file_info(selector)
        return infos

    def relative_to(self, folder: "Location") -> str:
        """The path below a folder that holds this."""
        return PurePosixPath(self.path).relative_to(folder.path).as_posix()

    def open(self) -> Any:
        """Open a file to read; seekable, so that parts of a large one can be read.

        Raises:
            OSError: it can't be opened.
        """
        return self.files.open_input_file(self.path)

    def read(self) -> bytes:
        """All bytes of a file.

        Raises:
            OSError: it can't be read.
            FileTooLarge: it would fill the memory.
        """
        with self.open() as file:
            check_bytes(file.size())
            content: bytes = file.read()
        return content
