import inspect
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from mlflow.cli import cli as mlflow_commands
from ray.scripts.scripts import start as ray_start

from automl.cluster import join, shut_others_out
from automl.commands import PROJECT

OWNER = """
import ray, subprocess, sys
from automl.cluster import join
from automl.base_config import ResourcesConfig

join(ResourcesConfig())
assert ray.get(ray.remote(lambda: 1 + 1).options(num_cpus=0).remote()) == 2
sys.stdout.write(ray.get_runtime_context().gcs_address + "\\n")
sys.stdout.flush()
sys.stdin.readline()
"""
STRANGER = """
import sys
from ray._raylet import GcsClient

try:
    client = GcsClient(address=sys.argv[1], cluster_id=None)
    client.internal_kv_keys(b"", namespace=b"session")
except Exception as error:
    print(type(error).__name__)
else:
    print("let in")
"""
NAMES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def stranger(address: str, **environment: str) -> str:
    """What becomes of a process that was not given the token."""
    others = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, address],
        env={**others, **environment, "RAY_py_gcs_connect_timeout_s": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip()


def test_ray_on_this_machine_lets_in_nobody_else(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**environment, "HOME": str(tmp_path), "RAY_ADDRESS": "local"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        address = owner.stdout.readline().strip()
        assert address, owner.communicate(timeout=60)[1]
        assert stranger(address, RAY_AUTH_MODE="disabled") == "AuthenticationError"
        wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
        assert stranger(address, **wrong) == "AuthenticationError"
    finally:
        _, said = owner.communicate("\n", timeout=60)
    assert owner.returncode == 0, said
    assert "oken" not in said  # nothing about it on the terminal
    assert not (tmp_path / ".ray" / "auth_token").exists()


@pytest.mark.parametrize("name", NAMES)
def test_what_the_environment_says_of_tokens_is_kept(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "mine")
    before = dict(os.environ)
    shut_others_out()
    assert dict(os.environ) == before


def test_pages_are_for_this_machine_alone_unless_told_otherwise() -> None:
    def default(command: click.Command, option: str) -> object:
        return next(p.default for p in command.params if option in p.opts)

    ui = mlflow_commands.get_command(click.Context(mlflow_commands), "ui")
    assert ui is not None
    loopback = ("127.0.0.1", "localhost")
    assert default(ray_start, "--dashboard-host") in loopback
    assert default(ui, "--host") in (*loopback, None)
    yamls = [PROJECT / "ray_cluster.yaml", *(PROJECT / "configs" / "clusters").glob("*.yaml")]
    for path in yamls:
        # Ray's own commands for AWS have the dashboard listen everywhere.
        assert "head_start_ray_commands:" in path.read_text(), path
        assert "--dashboard-host" not in path.read_text(), path
    assert "include_dashboard=False" in inspect.getsource(join)
