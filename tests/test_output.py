"""Whose output directory it is while a study runs."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from automl.config import check_config
from automl.output import claim_output, held_output
from automl.workspace import Workspace
from search_spaces import InputError

HOLD = """
import sys, time
from pathlib import Path
from automl.config import check_config
from automl.output import held_output
from automl.workspace import Workspace
with held_output(Workspace(check_config({}, "here"), Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


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
    with held_output(workspace):
        assert [path.name for path in workspace.root.iterdir()] == ["config.yaml"]


def test_it_is_free_again_after_a_run_whatever_its_end(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), held_output(workspace):
        raise ZeroDivisionError
    with held_output(workspace):
        pass
