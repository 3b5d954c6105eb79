"""What stage a study is in, how far, and how long still: bars on a terminal, lines elsewhere."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from automl.study_log import LogTail, log_line

LINE_EVERY_S = 10.0

Item = TypeVar("Item")


class StageProgress:
    """One stage's share of the whole; `update` may be called as often as one likes."""

    def __init__(self, progress: "StudyProgress", name: str, weight: float) -> None:
        self._progress, self._name, self._weight = progress, name, weight
        self._done = 0.0

    def update(self, done: float, total: float, note: str = "") -> None:
        """Say how far the stage is: `done` of `total`, in any unit."""
        share = min(1.0, done / total) if total else 1.0
        self._progress.advance(self._weight * (share - self._done))
        self._done = share
        self._progress.show(self._name, share, note)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._progress.say(self._name, text)


class StudyProgress:
    """Progress of a study over its stages.

    Args:
        weights: the stages in order, with the cost that each is expected to have, in any unit;
            the time left is estimated from them.
        console: where to write.
        root: the study's output directory; what is added to its log is shown. None: there is no
            log.
    """

    def __init__(
        self, weights: Mapping[str, float], console: Console, root: Path | None = None
    ) -> None:
        self._weights = dict(weights)
        self._console = console
        self._root, self._log = root, LogTail(root) if root else None
        self._started = self._last_line = time.monotonic()
        self._done = self._skipped = 0.0
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self._bars.add_task("starting", total=100, note="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._show_log()
        self._bars.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[StageProgress]:
        """Enter a stage by its name."""
        stage = StageProgress(self, name, self._weights[name])
        start = time.monotonic()
        self._last_line = 0.0
        stage.update(0, 1)
        yield stage
        stage.update(1, 1)
        if not self._console.is_terminal:
            self._print(f"{self._title(name)}: done in {time.monotonic() - start:.0f} s")

    @property
    def share(self) -> float:
        """How much of the study's expected cost is behind it."""
        return self._done / sum(self._weights.values())

    def skip(self, name: str) -> None:
        """A stage whose results are there already."""
        self._skipped += self._weights[name]
        self._done += self._weights[name]
        self._print(f"{self._title(name)}: done before")

    def advance(self, weight: float) -> None:
        """Count some of the study's cost as spent."""
        self._done += weight

    def show(self, name: str, share: float, note: str) -> None:
        """Bring the display up to date."""
        self._show_log()
        left = self._time_left()
        title = f"{self._title(name)} {share:4.0%}" + (f", {note}" if note else "")
        if self._console.is_terminal:
            self._bars.update(
                self._bar, completed=round(100 * self.share), description=title, note=left
            )
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._print(f"{title}; {self.share:.0%} of the study{', ' + left if left else ''}")

    def say(self, name: str, text: str) -> None:
        """Print a line about a stage that stays, also in the study's log."""
        line = f"{self._title(name)}: {text}"
        if self._root is None:
            self._print(line)
        else:
            log_line(self._root, line)
            self._show_log()

    def _show_log(self) -> None:
        for line in self._log.new_lines() if self._log else []:
            self._print(line)

    def _title(self, name: str) -> str:
        names = list(self._weights)
        return f"{names.index(name) + 1}/{len(names)} {name}"

    def _time_left(self) -> str:
        elapsed = time.monotonic() - self._started
        spent, total = self._done - self._skipped, sum(self._weights.values())
        if spent < 0.03 * total or elapsed < 5:
            return ""
        left = elapsed * (total - self._done) / spent
        return f"about {timedelta(seconds=round(left))} left"

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def track(items: Iterable[Item], total: int, what: str, console: Console) -> Iterator[Item]:
    """Pass items on and show how many are done: a bar on a terminal, a line at times elsewhere.

    Args:
        items: an item counts as done when the next one is asked for.
        total: how many there are.
        what: is done, for people.
        console: where to write.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    started = last_line = time.monotonic()
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task(what, total=total)
        for done, item in enumerate(items, start=1):
            yield item
            bars.update(bar, completed=done)
            now = time.monotonic()
            if not console.is_terminal and now - last_line >= LINE_EVERY_S:
                last_line = now
                left = timedelta(seconds=round((now - started) * (total - done) / done))
                text = f"{what}: {done}/{total}, about {left} left"
                console.print(text, highlight=False, soft_wrap=True)
