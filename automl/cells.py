"""A table as a value: the same one on a page and on a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Cells:
    """A table.

    Args:
        columns: their heads.
        rows: as many texts each as there are columns.
        names: so many columns on the left are names, the others figures.
        baselines: so many rows at the top are what the others are compared with.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    baselines: int = 0

    def on_terminal(self, title: str) -> Table:
        """As rich shows it."""
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(self.columns):
            table.add_column(name, justify="left" if number < self.names else "right")
        for number, row in enumerate(self.rows):
            style = "bold" if number < self.baselines else None
            table.add_row(*map(Text, row), style=style)
        return table
