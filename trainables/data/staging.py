"""Files of a folder that appear together, when all are written, or not at all."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from pyarrow import fs

from search_spaces.errors import InputError
from trainables.data.storage import Location

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LARGEST_COPY = 5 << 30
"""Bytes; S3 renames nothing, and copies no more than this within itself."""


class Staging:
    """Writes files under other names, and renames them when the `with` block ends well.

    Args:
        folder: where they go, on any file system; made if missing.
        names: those that may be written, in the order in which they appear. The last one says that
            the others are whole: an older one of its name goes before the first of them appears.

    Raises:
        InputError: while writing: no space is left, or the folder can't be written to. As after
            any other exception, nothing is left then.
    """

    def __init__(self, folder: Location, names: tuple[str, ...]) -> None:
        self._folder, self._names = folder, names
        self._sinks: dict[str, Any] = {}
        self._made_folder = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            with self.writing():
                self._appear()
        except BaseException:
            self._abandon()
            raise

    def open(self, name: str) -> Any:
        """A binary stream into a file; closed by this class."""
        with self.writing():
            if isinstance(self._folder.files, fs.LocalFileSystem):
                missing = not self._folder.is_folder()
                self._folder.files.create_dir(self._folder.path)
                self._made_folder |= missing
            part = self._part(name)
            self._sinks[name] = part.files.open_output_stream(part.path)
        return self._sinks[name]

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        sink = self.open(name)
        with self.writing():
            sink.write(content)

    def copy(self, name: str, source: Location) -> None:
        """Copy a file from any file system."""
        sink = self.open(name)
        with self.writing(), source.open() as file:
            shutil.copyfileobj(file, sink, 4 << 20)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Where writing goes wrong, say so in one line."""
        try:
            yield
        except OSError as error:
            reason = " ".join(str(error).split())
            if error.errno in NO_SPACE:
                raise InputError(
                    f"{self._folder}: no space left ({reason}); nothing was kept; "
                    "make room, or give another directory"
                ) from error
            raise InputError(
                f"{self._folder} can't be written: {reason}; nothing was kept"
            ) from error

    def _part(self, name: str) -> Location:
        return self._folder / f".{name}.part"

    def _appear(self) -> None:
        for sink in self._sinks.values():
            sink.close()
        last = self._folder / self._names[-1]
        if last.is_file():
            last.files.delete_file(last.path)
        for name in self._names:
            if name in self._sinks:
                _rename(self._part(name), self._folder / name)

    def _abandon(self) -> None:
        for name, sink in self._sinks.items():
            part = self._part(name)
            with suppress(OSError):  # a full disk again; what was written goes all the same
                sink.close()
            with suppress(FileNotFoundError):
                part.files.delete_file(part.path)
        if self._made_folder and not self._folder.list():
            self._folder.files.delete_dir(self._folder.path)


def _rename(part: Location, final: Location) -> None:
    files = part.files
    local = isinstance(files, fs.LocalFileSystem)
    if local or files.get_file_info([part.path])[0].size <= LARGEST_COPY:
        files.move(part.path, final.path)
        return
    with part.open() as source, files.open_output_stream(final.path) as sink:
        shutil.copyfileobj(source, sink, 16 << 20)
    files.delete_file(part.path)
