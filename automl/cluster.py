"""The Ray that a study runs on: the cluster it was submitted to, or this machine."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

from automl.config import ResourcesConfig
from search_spaces.errors import InputError

STARTED = Path("/tmp/ray/ray_current_cluster")
"""Where `ray start`, and with it `ray up`, notes the cluster that this machine belongs to."""
OBJECT_STORE_BYTES = 256 << 20
"""On one machine: nothing large travels through Ray's object store."""
WORKER_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a training starts seconds earlier
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger and MLflow hold the results
    "RAY_AIR_NEW_OUTPUT": "0",  # progress is shown by us, not by Tune
}


def connect(resources: ResourcesConfig) -> None:
    """Join or start Ray (see `join`), and check that it has what each stage reserves.

    Raises:
        InputError: the cluster does not answer, or no node has what a stage reserves.
    """
    join(resources)
    _check_resources(resources)


def join(resources: ResourcesConfig) -> None:
    """Join the cluster that `cluster_address` finds, or start one here.

    Raises:
        InputError: the cluster does not answer.
    """
    environment = {
        **WORKER_ENVIRONMENT,
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(resources.start_timeout_s),
    }
    os.environ.update(environment)
    # It warns of the log files that TUNE_DISABLE_AUTO_CALLBACK_LOGGERS leaves out.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    if not ray.is_initialized():
        address = cluster_address()
        if address == "local" or not _joined(address, environment):
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level="warning",
            )


def cluster_address() -> str:
    """RAY_ADDRESS if it is set; `auto` on a machine where `ray start` ran; else `local`.

    Ray's own `auto` would also join what another program on this machine started for itself, with
    its code, and which ends when that program does.
    """
    started = STARTED.is_file()
    return os.environ.get("RAY_ADDRESS") or ("auto" if started else "local")


def _joined(address: str, environment: dict[str, str]) -> bool:
    """Join a cluster; False where "auto" finds that this machine belongs to none."""
    try:
        ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": environment})
    except ConnectionError as error:
        if address != "auto":
            raise InputError(
                f"RAY_ADDRESS: no Ray cluster answers at {address}; start it, or unset RAY_ADDRESS "
                "to run on this machine"
            ) from error
        return False
    return True


def _check_resources(resources: ResourcesConfig) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = [
        ("train_cpus", "CPU", resources.train_cpus),
        ("train_gpus", "GPU", resources.train_gpus),
        ("evaluator_cpus", "CPU", resources.evaluator_cpus),
        ("evaluator_gpus", "GPU", resources.evaluator_gpus),
    ]
    for key, kind, amount in wanted:
        most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if amount > most:
            raise InputError(
                f"resources.{key}: {amount:g} {kind} asked, the largest node has {most:g}; "
                f"set resources.{key}={most:g} or less"
            )
    total = sum(node.get("CPU", 0.0) for node in nodes)
    if resources.train_workers * resources.train_cpus > total:
        raise InputError(
            f"resources.train_workers: {resources.train_workers} workers of "
            f"{resources.train_cpus:g} CPU asked, all nodes together have {total:g} CPU"
        )


def run_task(
    task: Callable[..., Iterator[Any]], resources: ResourcesConfig, *arguments: Any
) -> Iterator[Any]:
    """Run a generator function as one Ray task with an evaluator's resources, item by item."""
    remote = ray.remote(task).options(
        num_cpus=resources.evaluator_cpus,
        num_gpus=resources.evaluator_gpus,
        num_returns="streaming",
    )
    for reference in remote.remote(*arguments):
        yield ray.get(reference)
