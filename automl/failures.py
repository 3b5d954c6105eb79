"""What made something fail, in a line."""

import errno
import re
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

FULL = re.compile("no space left on device|disk quota exceeded|(database or )?disk is full", re.I)
"""How libraries say it, each in its own exception."""
LONGEST = 200
"""Characters of a reason."""
MB = 1 << 20


class DiskFullError(OSError):
    """There was no room to write; once there is, the same command goes on."""


def reason(error: BaseException) -> str:
    """The last line of what an exception says, which names the cause where Ray hands one on.

    Ray's own are paragraphs, which are cut off.
    """
    lines = str(error).strip().splitlines()
    return textwrap.shorten(lines[-1], LONGEST, placeholder=" …") if lines else repr(error)


def disk_full(error: BaseException, root: Path) -> DiskFullError | None:
    """What is to be said where a full disk was the reason; else None.

    Args:
        error: what a study failed of, here or in another process.
        root: its output directory.
    """
    places = dict.fromkeys((str(root), tempfile.gettempdir()))
    left = {place: shutil.disk_usage(place).free // MB for place in places}

    def is_full(cause: BaseException) -> bool:
        # What Tune wrote of a trial's failure may itself have been cut off.
        cut_off = isinstance(cause, EOFError) and min(left.values()) == 0
        return cut_off or FULL.search(str(cause)) is not None

    if not any(is_full(cause) for cause in _causes(error)):
        return None
    free = ", ".join(f"{place} has {megabytes} MB" for place, megabytes in left.items())
    text = f"no room was left to write on the disk ({free} left now); make room, and the same "
    return DiskFullError(errno.ENOSPC, text + "command goes on where it was")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if found in seen:
            continue
        seen.append(found)
        yield found
        linked = (found.__cause__, found.__context__, getattr(found, "cause", None))
        waiting += [cause for cause in linked if isinstance(cause, BaseException)]
