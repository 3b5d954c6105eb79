"""The Ray that a study runs on: the cluster it was submitted to, or this machine."""

import logging
import os
import secrets
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from automl.base_config import ResourcesConfig
from automl.placement import (
    Node,
    await_evaluator,
    evaluators_of,
    live_nodes,
    training_of,
    wanted,
)
from search_spaces.errors import InputError

TEMPORARY = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
STARTED = Path(TEMPORARY) / "ray" / "ray_current_cluster"
"""Where `ray start`, and with it `ray up`, notes the cluster that this machine belongs to."""
OBJECT_STORE_BYTES = 256 << 20
"""On one machine: nothing large travels through Ray's object store."""
WORKER_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a training starts seconds earlier
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger and MLflow hold the results
    "RAY_AIR_NEW_OUTPUT": "0",  # progress is shown by us, not by Tune
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # what was done is on disk; Tune need not save it as well
}
AUTHENTICATION = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
"""The environment variables by which Ray is told whom to let in."""
STORAGE_S = 120.0
"""So long nodes have to find the output directory."""


def connect(resources: ResourcesConfig, say: Callable[[str], None] = lambda text: None) -> None:
    """Join or start Ray (see `join`), and check that it has what each stage reserves.

    Args:
        resources: of the study.
        say: told where nodes are waited for.

    Raises:
        InputError: the cluster does not answer, or has no room for what a stage reserves.
    """
    if join(resources):
        await_nodes(resources, say)
    check_resources(resources, live_nodes())


def await_nodes(resources: ResourcesConfig, say: Callable[[str], None]) -> None:
    """Where the joined cluster lacks what a stage reserves, wait `start_timeout_s` for more nodes.

    An autoscaler brings them; without one, `check_resources` refuses when the time is over.
    """
    try:
        check_resources(resources, live_nodes())
        return
    except InputError as error:
        say(f"{error}; for {resources.start_timeout_s} s more nodes are waited for")
    end = time.monotonic() + resources.start_timeout_s
    nodes = live_nodes()
    training, evaluators = training_of(resources, nodes), evaluators_of(resources, nodes)
    with wanted([training.bundle] * training.processes), wanted([evaluators.bundle]):
        while time.monotonic() < end:
            time.sleep(0.5)
            with suppress(InputError):
                check_resources(resources, live_nodes())
                return


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """While it lasts, SIGINT and SIGTERM raise KeyboardInterrupt(NAME), until that has ended it.

    Ray's own handler of SIGTERM, which `connect` sets, would end the process without a word.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[str] = []

    def again(number: int, frame: FrameType | None) -> None:
        # Python drops what is raised while it deletes an object: so again, every other second.
        signal.setitimer(signal.ITIMER_REAL, 2)
        raise KeyboardInterrupt(received[0])

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        signal.signal(signal.SIGALRM, again)
        again(number, frame)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as error:  # Ray raises one of its own in its place, without a name
        raise KeyboardInterrupt(*received[:1]) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def join(resources: ResourcesConfig) -> bool:
    """Join the cluster that `cluster_address` finds, or start one here.

    Returns:
        Whether it joined one now.

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
    if ray.is_initialized():
        return False
    address = cluster_address()
    if address != "local" and _joined(address, environment):
        return True
    shut_others_out()
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="warning",
    )
    return False


def shut_others_out() -> None:
    """Give the Ray that is about to be started a token, unless the environment says something else.

    Ray listens on all of the machine's addresses, and without a token runs whatever anyone sends.
    With none at hand it would leave one in the home directory.
    """
    if not os.environ.keys() & AUTHENTICATION:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    # It would announce on the terminal that there is a token now.
    setup = "ray._private.authentication.authentication_token_setup"
    logging.getLogger(setup).setLevel(logging.ERROR)


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


def check_resources(resources: ResourcesConfig, nodes: list[Node]) -> None:
    """Refuse what could never be placed: a training, or a single evaluator.

    More evaluators than there is room for take turns.

    Args:
        resources: what each stage reserves.
        nodes: what each node of the cluster has.

    Raises:
        InputError: no node has what one process reserves, or not all workers of a training fit.
    """
    training = training_of(resources, nodes)
    for each in (training, evaluators_of(resources, nodes)):
        for kind, amount in (("CPU", each.cpus), ("GPU", each.gpus)):
            most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
            if amount > most:
                key = f"resources.{each.stage}_{kind.lower()}s"
                raise InputError(
                    f"{key}: {amount:g} {kind} asked, the largest node has {most:g}; "
                    f"set {key}={most:g} or less"
                )
        if not process_slots(nodes, each.cpus, each.gpus):
            raise InputError(
                f"resources.{each.stage}_gpus: {each} of one node asked, no node "
                f"has both; set resources.{each.stage}_cpus or resources.{each.stage}_gpus lower"
            )
    slots = process_slots(nodes, training.cpus, training.gpus)
    if training.processes > slots:
        without = ", or resources.train_gpus=0" if training.gpus else ""
        raise InputError(
            f"resources.train_workers: {training.processes} workers of {training} asked, all nodes "
            f"together have room for {slots}; set resources.train_workers={slots} or less{without}"
        )


def check_storage(root: Path) -> None:
    """Refuse an output directory that not every node of the joined cluster reaches.

    Args:
        root: the directory, which exists; a file is written here and read on each node.

    Raises:
        InputError: a node does not have it, or has another one at that path.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    here = ray.get_runtime_context().get_node_id()
    others = [node for node in nodes if node["NodeID"] != here]
    if not others:
        return
    probe, text = root / f".reached-{uuid.uuid4().hex}", uuid.uuid4().hex
    probe.write_text(text)
    reader = ray.remote(_text_of)
    try:
        asked = [
            reader.options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(str(probe))
            for node in others
        ]
        for node, found in zip(others, asked, strict=True):
            if ray.get(found, timeout=STORAGE_S) != text:
                raise InputError(
                    f"--output: node {node['NodeManagerAddress']} does not reach {root}; give a "
                    "directory on a file system that all nodes share, at the same path"
                )
    except GetTimeoutError as error:
        raise InputError(
            f"--output: not every node has looked for {root} within {STORAGE_S} s; are all of "
            "them alive, and is the project installed there?"
        ) from error
    finally:
        probe.unlink()


def _text_of(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def concurrent_designs(resources: ResourcesConfig, asked: int) -> int:
    """How many designs can be tried at once on the cluster that was joined: at most as asked."""
    return fitting_designs(resources, asked, live_nodes())


def fitting_designs(resources: ResourcesConfig, asked: int, nodes: list[Node]) -> int:
    """How many designs fit side by side, at least 1 and at most as asked.

    One design trains while another evaluates, so each may need what either reserves: a training
    that waits too long for others' processors is given up. A design alone needs no room for all of
    its evaluators.

    Args:
        resources: what each stage reserves.
        asked: designs at once.
        nodes: what each node of the cluster has; a training fits.
    """
    stages = training_of(resources, nodes), evaluators_of(resources, nodes)
    fitting = [process_slots(nodes, each.cpus, each.gpus) // each.processes for each in stages]
    return max(1, min(asked, *fitting))


def process_slots(nodes: list[Node], cpus: float, gpus: float) -> int:
    """How many processes fit that each reserve so much of one node.

    Ray gives a share of a GPU from one GPU, so what is left of each is lost to a larger share.
    """
    slots = 0
    for node in nodes:
        room = _times(node.get("CPU", 0.0), cpus)
        if gpus:
            devices = node.get("GPU", 0.0)
            shared = int(devices) * _times(1.0, gpus)
            room = min(room, shared if gpus < 1 else _times(devices, gpus))
        slots += room
    return slots


def _times(there: float, each: float) -> int:
    return int(there / each + 1e-9)  # 0.3 goes into 0.9 three times


def run_task(
    task: Callable[..., Iterator[Any]], resources: ResourcesConfig, *arguments: Any
) -> Iterator[Any]:
    """Run a generator function as one Ray task with an evaluator's resources, item by item.

    Raises:
        InputError: the cluster has no room for it.
    """
    reserved = await_evaluator(resources)
    remote = ray.remote(task).options(
        num_cpus=reserved.cpus,
        num_gpus=reserved.gpus,
        num_returns="streaming",
    )
    for reference in remote.remote(*arguments):
        yield ray.get(reference)
