"""Whose output directory it is while a study runs."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automl.output import claim_output, held_output, release_output
from automl.sam.config import check_config
from automl.sam.workspace import Workspace
from automl.study_log import LOG
from search_spaces import InputError

HOLD = """
import sys, time
from pathlib import Path
from automl.sam.config import check_config
from automl.output import held_output
from automl.sam.workspace import Workspace
with held_output(Workspace(check_config({}, "here"), Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""

FULL = Path("/dev/full")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(check_config({}, "here"), tmp_path / "study")
    claim_output(found)
    return found


def test_two_processes_cannot_run_one_study_and_a_killed_one_holds_nothing(
    workspace: Workspace,
) -> None:
    command = [sys.executable, "-c", HOLD, str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            start = time.monotonic()
            refused = pytest.raises(InputError, match="another process is running the study")
            with refused, held_output(workspace):
                pass
            assert time.monotonic() - start < 5
        finally:
            other.kill()
    log = (workspace.root / LOG).read_text()
    assert log.count("was refused: one runs already") == 1
    with held_output(workspace):
        assert (workspace.root / "running").exists()
    log = (workspace.root / LOG).read_text()
    assert log.count(f"process {other.pid} on ") == log.count("ended without a word") == 1
    assert {path.name for path in workspace.root.iterdir()} == {"config.yaml", LOG}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt("SIGTERM"), "was ended by KeyboardInterrupt: SIGTERM"),
        (RuntimeError("Traceback\nValueError: no"), "was ended by RuntimeError: ValueError: no"),
    ],
)
def test_the_log_says_how_a_run_ended(
    workspace: Workspace, error: BaseException, said: str
) -> None:
    with pytest.raises(type(error)), held_output(workspace):
        raise error
    (line,) = (workspace.root / LOG).read_text().splitlines()
    assert line.endswith(said)
    assert f"process {os.getpid()} on " in line


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
def test_what_a_full_disk_left_no_room_for_is_said_by_the_next_run(workspace: Workspace) -> None:
    log = workspace.root / LOG
    log.symlink_to(FULL)
    with pytest.raises(OSError, match="no room"), held_output(workspace):
        raise OSError(errno.ENOSPC, "no room")
    log.unlink()
    with held_output(workspace):
        pass
    (line,) = log.read_text().splitlines()
    assert f"process {os.getpid()} on " in line
    assert line.endswith("[Errno 28] no room: the study goes on from what is on disk")
    assert "without a word" not in line


def test_a_directory_that_is_free_again_holds_no_log(workspace: Workspace) -> None:
    with pytest.raises(InputError), held_output(workspace):
        release_output(workspace)
        raise InputError("data: there is none")
    assert list(workspace.root.iterdir()) == []


def test_it_is_free_again_after_a_run_whatever_its_end(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), held_output(workspace):
        raise ZeroDivisionError
    with held_output(workspace):
        pass
