"""The ledger: every evaluation ever made in a study, so that none is made twice.

Each search writes a part of its own (`ledger/WEIGHTS.parquet`); a study that is done has them all
in `evaluations.parquet`.
"""

import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automl.files import written_whole
from search_spaces.errors import InputError
from trainables.checksums import UNSEALED, is_footer_sound, seal_footer

Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """The columns of a family's ledger.

    Args:
        schema: of all of them; `failure` says why a candidate could not be evaluated.
        identity: those that make an evaluation the same as another.
        found_by: those that `Ledger.find` looks for.
    """

    schema: pa.Schema
    identity: tuple[str, ...]
    found_by: tuple[str, ...]


class DamagedError(InputError):
    """A table is not as it was written."""


def write_rows(rows: Iterable[Row], path: Path, schema: pa.Schema) -> None:
    """Write a table with checksums; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows), schema=schema.with_metadata(UNSEALED))
    with written_whole(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
        seal_footer(temporary)


def read_rows(path: Path) -> list[Row]:
    """Rows of a table that `write_rows` wrote; none where there is no file.

    Raises:
        DamagedError: it is not as it was written.
    """
    try:
        content = path.read_bytes()  # once: Arrow opens a file again, which may be another by then
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        rows: list[Row] = table.to_pylist()
    except FileNotFoundError:
        return []
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    if not is_footer_sound(io.BytesIO(content)):
        raise DamagedError(f"{path} is damaged: its footer is not as it was written")
    return rows


def evaluated_whole(rows: Iterable[Row]) -> list[Row]:
    """Without those that were stopped early or failed."""
    return [row for row in rows if not row.get("stopped") and not row.get("failure")]


def _evaluations(path: Path, columns: Columns) -> list[Row]:
    """Rows of a part of the ledger.

    Raises:
        DamagedError: it is not as it was written, or another table.
    """
    rows = read_rows(path)
    missing = [name for name in columns.identity if rows and name not in rows[0]]
    if missing:
        raise DamagedError(f"{path} is no ledger: it has no column {missing[0]!r}")
    return rows


class Ledger:
    """One part of the ledger, with a single writer; a row is on disk when `record` returns.

    The file before the last row stays beside it and is taken where the newer one is damaged: what
    it lacks is evaluated again.

    Args:
        path: of the part.
        columns: of the family.
        say: told where the part is damaged.

    Raises:
        DamagedError: the file before it is damaged, too.
    """

    def __init__(
        self,
        path: Path,
        columns: Columns,
        say: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.path, self._columns = path, columns
        self._before = path.with_suffix(".before")
        self._rows: dict[tuple[Any, ...], Row] = {}
        self._found: dict[tuple[Any, ...], Row] = {}
        for row in self._last_good(say):
            self._add(row)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> list[Row]:
        """All rows, in the order in which they were made."""
        return list(self._rows.values())

    def find(self, *values: Any) -> Row | None:
        """The first evaluation of a candidate, whole or not; None if there is none.

        Args:
            values: of the columns `found_by`: a subnet and a split.
        """
        return self._found.get(values)

    def record(self, row: Row) -> None:
        """Add an evaluation.

        Raises:
            ValueError: it was made before.
        """
        identity = self._values(row, self._columns.identity)
        if identity in self._rows:
            raise ValueError(f"evaluated twice: {identity}")
        self._add({name: row.get(name) for name in self._columns.schema.names})
        if self.path.exists():
            # A name more for the same file: the part is there at any moment.
            spare = self._before.with_suffix(".spare")
            spare.unlink(missing_ok=True)
            spare.hardlink_to(self.path)
            spare.replace(self._before)
            spare.unlink(missing_ok=True)  # where both were names of one file already
        write_rows(self._rows.values(), self.path, self._columns.schema)

    def _last_good(self, say: Callable[[str], None]) -> list[Row]:
        try:
            return _evaluations(self.path, self._columns)
        except DamagedError as error:
            rows = _evaluations(self._before, self._columns)
            say(f"{error}; the ledger goes on from the {len(rows)} rows before it")
            write_rows(rows, self.path, self._columns.schema)
            return rows

    def _add(self, row: Row) -> None:
        self._rows[self._values(row, self._columns.identity)] = row
        self._found.setdefault(self._values(row, self._columns.found_by), row)

    @staticmethod
    def _values(row: Row, names: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(row[name] for name in names)
