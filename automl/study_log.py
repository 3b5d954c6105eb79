"""`study.log`: what somebody should know of a study, from whichever process saw it happen."""

import sys
from datetime import datetime
from pathlib import Path

from search_spaces.addresses import printable, without_secrets

LOG = "study.log"


def log_line(root: Path, text: str) -> None:
    """As `is_logged`, wherever it then stands."""
    is_logged(root, text)


def is_logged(root: Path, text: str) -> bool:
    """Append a line with the time; processes may do so side by side.

    Where the disk has no room for it, it goes to standard error: what is said of a fault never
    fails itself.

    Args:
        root: the study's output directory.
        text: line breaks become spaces; secrets in addresses are left out.

    Returns:
        Whether it stands in the log.
    """
    shown = printable(without_secrets(" ".join(text.split())))
    line = f"{datetime.now():%Y-%m-%d %H:%M:%S} {shown}\n"
    try:
        with (root / LOG).open("a", encoding="utf-8") as log:
            log.write(line)
    except OSError:
        sys.stderr.write(line)
        return False
    return True


class LogTail:
    """The lines that are added from now on."""

    def __init__(self, root: Path) -> None:
        self._path = root / LOG
        self._seen = self._path.stat().st_size if self._path.exists() else 0

    def new_lines(self) -> list[str]:
        """Those since the last call, without their times; a line counts once it is whole."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as log:
            log.seek(self._seen)
            added = log.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._seen += len(whole)
        return [line.split(" ", 2)[2] for line in whole.decode("utf-8").splitlines()]
