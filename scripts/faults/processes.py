"""The processes of one run of a study: those of the operating system's session that it leads."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    pid: int
    title: str


def of_session(leader: int) -> list[Process]:
    """Those that are alive."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, _, _, session, *_ = (folder / "stat").read_text().rpartition(") ")[2].split()
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if int(session) == leader and state not in "ZX":
            found.append(Process(int(folder.name), title.strip()))
    return found


def named(leader: int, part: str) -> list[Process]:
    """Those whose title has a part: `ray::RayTrainWorker`, `raylet/raylet`, …"""
    return [process for process in of_session(leader) if part in process.title]


def kill(processes: list[Process]) -> None:
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)


def wait_until_gone(leader: int, seconds: float) -> list[Process]:
    """What is left of a session after so many seconds at most."""
    end = time.monotonic() + seconds
    while (left := of_session(leader)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def slow_down(process: Process, share: float, seconds: float) -> None:
    """Let a process run only for a share of the time."""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(0.2 * (1 - share))
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.2 * share)
    except ProcessLookupError:
        pass
