"""Studies as a user runs them: `run.py` in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "RAY_ADDRESS": "local"}


def start(output: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run a study, or go on with it."""
    return subprocess.Popen(
        [sys.executable, "run.py", "--output", str(output), "--json", *arguments],
        cwd=PROJECT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a study that ends well prints."""
    out, err = process.communicate(timeout=560)
    assert process.returncode == 0, err
    value: dict[str, Any] = json.loads(out)
    return value


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is so while a study runs."""
    deadline = time.monotonic() + 400
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill(process: subprocess.Popen[str]) -> None:
    """End it without a word."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
