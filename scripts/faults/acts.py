"""What can be done to a study that runs."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults import processes
from faults.files import flip_bit, full_disk
from faults.running import Act, Bench
from faults.study import PROJECT, SmallStudy, check

from automl.files import write_text

CUT_OFF = "ended without a word"
REFUSED, STOPPED = 2, 130
"""Exit statuses of a study."""


def kill_one(title: str) -> Act:
    """Kill −9 the process of a study that has a title; returns when it is gone."""

    def act(study: SmallStudy) -> None:
        found = study.wait_for(lambda: processes.named(study.session, title), title)
        processes.kill(found[:1])
        study.wait_for(
            lambda: found[0].pid not in {p.pid for p in processes.of_session(study.session)},
            f"the end of {title}",
        )

    return act


def end_and_go_on(number: signal.Signals, status: int, within_s: float) -> Act:
    """A signal to the study's own process, then the same command again."""

    def act(study: SmallStudy) -> None:
        start = time.monotonic()
        study.process.send_signal(number)
        ended = study.process.wait(120)
        took = time.monotonic() - start
        check(ended == status, f"{number.name}: exit status {ended}, not {status}")
        check(took <= within_s, f"{number.name}: ended after {took:.1f} s")
        study.end()
        study.start()

    return act


def kill_node(study: SmallStudy) -> None:
    """Kill −9 the study's only raylet; when the study has ended, the same command again."""
    processes.kill(processes.named(study.session, "raylet/raylet"))
    check(study.end() != 0, "a study without its node ended as if all were well")
    study.start()


def ask_for(fault: str) -> Act:
    """Have `faults/model.py` fail once; returns when it has."""

    def act(study: SmallStudy) -> None:
        asked = study.told / fault
        asked.write_text("1")
        study.wait_for(lambda: not asked.exists(), fault)

    return act


def slow_down(title: str, share: float = 0.1, seconds: float = 20.0) -> Act:
    """Let a process run for a share of the time only, for so many seconds."""

    def act(study: SmallStudy) -> None:
        (found, *_) = study.wait_for(lambda: processes.named(study.session, title), title)
        arguments = (found, share, seconds)
        threading.Thread(target=processes.slow_down, args=arguments, daemon=True).start()

    return act


def second_study(study: SmallStudy) -> None:
    """The same command while the first one runs, which waits meanwhile: refused in a line."""
    other = SmallStudy(study.folder, study.command, study.extra, study.environment)
    said = len(study.errors)
    study.process.send_signal(signal.SIGSTOP)
    try:
        other.start()
        status = other.end()
    finally:
        study.process.send_signal(signal.SIGCONT)
    check(status == REFUSED, f"a second study: exit status {status}")
    check("another process is running the study" in study.errors[said:], "nothing was said")


def damage_newest(study: SmallStudy, bench: Bench) -> None:
    """Kill −9 the study and flip a bit of what it wrote last; then the same command again."""
    work = study.output / "work"

    def written() -> list[Path]:
        parts = list((work / "ledger").glob("*.parquet"))
        return parts or sorted((work / "train").glob("*/checkpoint_*/optimiser.pt"))

    study.wait_for(written, "something written")
    study.process.kill()
    study.process.wait()
    study.end()
    flip_bit(written()[-1], bench.rng)
    study.start()


def fill_disk(study: SmallStudy, bench: Bench) -> None:
    """Leave next to no room until the study has ended; then the same command again."""
    with full_disk(bench.folder, 4096):
        status = study.end()
    check(status == 1, f"a full disk: exit status {status}")
    last = study.errors.strip().splitlines()[-1]
    check(last.startswith("supersam: no room was left to write"), f"the last line is {last}")
    study.start()


def movable_clock(folder: Path) -> dict[str, str]:
    """The environment of processes whose clock, as Python reads it, can be moved."""
    (folder / "offset").write_text("0")
    path = [str(Path(__file__).with_name("clock")), str(PROJECT)]
    return {"CLOCK_OFFSET": str(folder / "offset"), "PYTHONPATH": os.pathsep.join(path)}


def jump(hours: int) -> Act:
    """Move the clock of all processes of a study, counted from the true time."""

    def act(study: SmallStudy) -> None:
        write_text(str(3600 * hours), Path(study.environment["CLOCK_OFFSET"]))

    return act


@dataclass
class Server:
    """MLflow's, over a database."""

    database: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=self.database.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                    return
            except OSError:
                check(time.monotonic() < deadline, "MLflow's server does not answer")
                time.sleep(0.3)

    def stop(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def go_away(self, study: SmallStudy) -> None:
        """For 20 seconds; returns at once."""
        self.stop()
        back = threading.Timer(20, self.start)
        back.daemon = True
        back.start()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(folder / "mlflow.db", free.getsockname()[1])
    server.start()
    try:
        yield server
    finally:
        server.stop()
