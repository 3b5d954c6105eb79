"""A small study in processes of its own, and what must hold after a fault."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from faults import processes
from faults.model import PASSES

from automl.ledger import read_rows
from automl.sam.config import load_config
from automl.sam.front import front_rows
from automl.sam.ledger import row_identity
from automl.sam.workspace import Workspace
from automl.study_log import LOG

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("study.yaml")
MODEL = [f"model={Path(__file__).with_name('model.py')}:FAULTY"]
COMMAND = [sys.executable, "-c", "import sys; from automl.cli import main; sys.exit(main())"]
DONE = "done"
PATIENCE_S = 1800.0
PASSES_A_STEP = 3
"""Of a training: the largest, the smallest and a random subnet, one picture."""


class BrokenError(AssertionError):
    """Something did not hold."""


def check(holds: bool, text: str) -> None:
    if not holds:
        raise BrokenError(text)


@dataclass
class SmallStudy:
    """A study in a folder, begun from another one's files where there is one.

    Args:
        folder: holds its output directory, MLflow's database, and what its processes tell.
        command: of `supersam`.
        extra: `KEY=VALUE`.
        environment: more of it.
        notes: where its processes tell what they do; the folder unless given.
        database: MLflow's, where it is not in the folder.
    """

    folder: Path
    command: str = "search"
    extra: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    notes: Path | None = None
    database: Path | None = None
    sessions: list[int] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> Path:
        return self.folder / "study"

    @cached_property
    def workspace(self) -> Workspace:
        return Workspace(load_config(CONFIG, [*MODEL, *self.extra]), self.output.resolve())

    def begin_from(self, other: "SmallStudy") -> "SmallStudy":
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(other.folder, self.folder)
        for name in (PASSES, "stderr", DONE):
            (self.folder / name).unlink(missing_ok=True)
        (self.output / LOG).unlink(missing_ok=True)
        return self

    @property
    def told(self) -> Path:
        return self.notes or self.folder

    def start(self) -> None:
        self.told.mkdir(parents=True, exist_ok=True)
        arguments = ["--config", CONFIG, "--output", self.output, *MODEL, *self.extra]
        with (self.told / "stderr").open("a") as errors:
            self._process = subprocess.Popen(
                [*COMMAND, self.command, *map(str, arguments)],
                env={
                    **os.environ,
                    "PYTHONPATH": str(PROJECT),
                    "RAY_ADDRESS": "local",
                    "RAY_worker_niceness": "0",
                    "FAULTS": str(self.told.resolve()),
                    **self.environment,
                },
                cwd=PROJECT,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.sessions.append(self._process.pid)

    @property
    def session(self) -> int:
        return self.sessions[-1]

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    @property
    def errors(self) -> str:
        return (self.told / "stderr").read_text()

    @property
    def log(self) -> str:
        path = self.output / LOG
        return path.read_text() if path.exists() else ""

    def end(self) -> int:
        """Wait for the command; its exit status, after all processes of the session are gone."""
        status = self.process.wait(PATIENCE_S)
        left = processes.wait_until_gone(self.session, 90)
        titles = [process.title[:60] for process in left]
        processes.kill(left)
        check(not left, f"processes were left: {titles}")
        return status

    def run(self) -> "SmallStudy":
        self.start()
        status = self.end()
        check(status == 0, f"exit status {status}: {self.errors[-600:]}")
        (self.folder / DONE).touch()
        return self

    def is_done(self) -> bool:
        """Whether `run` is through."""
        return (self.folder / DONE).exists()

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            check(self.process.poll() is None, f"ended before {what}: {self.errors[-600:]}")
            check(time.monotonic() < deadline, f"waited in vain for {what}")
            time.sleep(0.05)
        return found

    def passes(self) -> Counter[tuple[str, int]]:
        """Forward passes so far, of each kind in each process."""
        path = self.told / PASSES
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter((kind, int(pid)) for kind, pid in map(str.split, lines))

    def passes_of(self, kind: str) -> int:
        return sum(count for (found, _), count in self.passes().items() if found == kind)

    def steps(self) -> float:
        return self.passes_of("train") / PASSES_A_STEP

    def ledger(self) -> list[dict[str, Any]]:
        parts = sorted((self.output / "work" / "ledger").glob("*.parquet"))
        if not parts:
            rows = read_rows(self.output / "evaluations.parquet")
            return [row for row in rows if row["split"] == "val"]
        return [row for part in parts for row in read_rows(part)]


def check_same(study: SmallStudy, undisturbed: SmallStudy) -> None:
    """The same evaluations in the same order, none twice, and the same front."""
    rows, theirs = study.ledger(), undisturbed.ledger()
    identities = [row_identity(row) for row in rows]
    check(len(set(identities)) == len(identities), "an evaluation is in the ledger twice")
    check(
        identities == [row_identity(row) for row in theirs],
        f"other evaluations: {len(rows)} rows, {len(theirs)} undisturbed",
    )
    check([r["expected"] for r in rows] == [r["expected"] for r in theirs], "other figures")
    mine = [row["subnet"] for row in front_rows(study.workspace, rows)]
    front = [row["subnet"] for row in front_rows(undisturbed.workspace, theirs)]
    check(mine == front, f"the front is {mine}, undisturbed {front}")


def check_tracking(study: SmallStudy) -> None:
    """No run of MLflow's is open but that of a study which is not at its end."""
    database = study.database or study.folder / "mlflow.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        query = (
            "select value from runs join tags using (run_uuid) "
            "where key = 'nas.kind' and status = 'RUNNING'"
        )
        running = [kind for (kind,) in connection.execute(query)]
    done = (study.output / "report.html").exists()
    check(running == ([] if done else ["study"]), f"runs left open in MLflow: {running}")


def check_log(study: SmallStudy, pattern: str, times: int) -> None:
    found = len(re.findall(pattern, study.log))
    check(found >= times, f"study.log has {found} lines of {times} with {pattern!r}: {study.log}")
