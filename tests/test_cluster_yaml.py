"""`ray_cluster.yaml` as Ray's launcher sees it, and the commands it runs on each machine."""

import copy
import itertools
import os
import shlex
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
REMOTE = "~/supersam-automl/"
CLOUDS = ("aws", "gcp")
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture
def cluster():
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def cloud_cluster(name):
    return yaml.safe_load((ROOT / "configs" / "clusters" / f"{name}.yaml").read_text())


def commands(cluster):
    names = ("setup_commands", *STARTS)
    return [command for name in names for command in cluster[name]]


def run_as_ray_does(command, home):
    """Ray's own wrapping: a login shell that reads ~/.bashrc first."""
    arguments = [shlex.split(argument)[0] for argument in _with_interactive(command)]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb"}
    return subprocess.run(
        arguments, cwd=home, env=environment, capture_output=True, text=True, timeout=60
    )


def test_ray_accepts_it(cluster):
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == 0


def test_ray_accepts_it_with_workers(cluster):
    cluster["provider"]["worker_ips"] = ["192.0.2.11", "192.0.2.12"]
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == 2


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_accepts_the_clouds(cloud):
    prepared = prepare_config(cloud_cluster(cloud))
    validate_config(prepared)
    assert prepared["max_workers"] == 4
    workers = prepared["available_node_types"]["gpu"]
    assert (workers["min_workers"], workers["max_workers"]) == (0, 4)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_clouds_install_and_start_what_machines_of_ones_own_do(cluster, cloud):
    theirs = cloud_cluster(cloud)
    for name in ("file_mounts", "rsync_exclude", "setup_commands", *STARTS):
        assert theirs[name] == cluster[name]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_misspelt_key_of_a_cloud_would_be_found(cloud):
    misspelt = cloud_cluster(cloud) | {"max_worker": 4}
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(misspelt))


def test_a_misspelt_key_would_be_found(cluster):
    misspelt = copy.deepcopy(cluster) | {"setup_comands": []}
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config(misspelt))


def test_everything_mounted_exists(cluster):
    for remote, local in cluster["file_mounts"].items():
        assert (ROOT / local).exists(), local
        assert remote == REMOTE + local


def test_what_pip_installs_is_mounted(cluster):
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = pyproject["tool"]["setuptools"]["packages"]["find"]["include"]
    wanted = {"pyproject.toml", "constraints.txt", pyproject["project"]["readme"]}
    wanted |= set(pyproject["project"]["license-files"])
    wanted |= {package.removesuffix("*") for package in packages}
    assert wanted <= set(cluster["file_mounts"].values())


def test_commands_are_valid_bash(cluster):
    clouds = [cloud_cluster(name)["initialization_commands"] for name in CLOUDS]
    for command in [*commands(cluster), *itertools.chain(*clouds)]:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_submitted_job_runs_in_the_project_with_its_own_python(cluster, tmp_path):
    """What `ray submit` runs, after the setup commands; pip and python are stand-ins."""
    project = tmp_path / "supersam-automl"
    programs = project / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, script in [("pip", "true"), ("python", 'echo "in $PWD: $0 $*"')]:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (tmp_path / ".bashrc").write_text("# kept\n")

    for _ in range(2):  # `ray up` runs them again when a mounted file has changed
        for command in cluster["setup_commands"]:
            done = run_as_ray_does(command, tmp_path)
            assert done.returncode == 0, done.stderr
    assert (tmp_path / ".bashrc").read_text() == "# kept\nsource ~/.supersam-automl.bash\n"

    job = run_as_ray_does("python ~/run.py --config configs/quickstart.yaml", tmp_path)
    arguments = f"{tmp_path}/run.py --config configs/quickstart.yaml"
    assert job.stdout.strip() == f"in {project}: {programs}/python {arguments}"
    other = run_as_ray_does("pwd", tmp_path)
    assert other.stdout.strip() == str(tmp_path)
