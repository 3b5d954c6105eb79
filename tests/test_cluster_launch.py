"""The cluster launcher for real. It takes minutes and 2 GB, so it runs where SUPERSAM_LAUNCH=1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parent / "cluster" / "launch.sh"
MISSING = 77


def test_it_is_valid_bash_and_knows_its_arguments() -> None:
    subprocess.run(["bash", "-n", LAUNCH], check=True)
    done = subprocess.run([LAUNCH, "--unknown"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "--unknown: expected --keep or KEY=VALUE\n")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY": str(tmp_path / "ray")}
    done = subprocess.run([LAUNCH], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == MISSING
    assert done.stderr.startswith("launch.sh: needs ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.environ.get("SUPERSAM_LAUNCH") != "1", reason="SUPERSAM_LAUNCH is not 1")
@pytest.mark.timeout(3600)
def test_a_cluster_is_launched_used_and_ended() -> None:
    environment = {**os.environ, "RAY": str(Path(sys.executable).with_name("ray"))}
    done = subprocess.run([LAUNCH], env=environment, capture_output=True, text=True)
    if done.returncode == MISSING:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
