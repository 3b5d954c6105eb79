"""What the processes of each stage reserve, and waiting until the cluster has room for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import torch
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from automl.base_config import ResourcesConfig
from search_spaces.errors import InputError

Node = dict[str, float]
"""What a node of the cluster has, by Ray's names: CPU, GPU, …"""
GPU_BUILD = bool(torch.version.cuda or torch.version.hip)
"""Whether this torch can use a GPU at all; the one on the nodes has the same version."""


@dataclass(frozen=True)
class Reserved:
    """What a stage reserves.

    Args:
        stage: train or evaluator, as `resources` names it.
        processes: how many; those of a training start together, evaluators one by one.
        cpus: of one node, for each.
        gpus: likewise; a fraction is one of one GPU.
    """

    stage: str
    processes: int
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"

    @property
    def bundle(self) -> Node:
        """One process, by Ray's names."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}


def training_of(resources: ResourcesConfig, nodes: list[Node]) -> Reserved:
    """What a training reserves on a cluster of these nodes."""
    gpus = resources.train_gpus
    if gpus is None:
        gpus = float(_devices(nodes, resources.train_cpus) > 0)
    return Reserved("train", resources.train_workers, resources.train_cpus, gpus)


def evaluators_of(resources: ResourcesConfig, nodes: list[Node]) -> Reserved:
    """What evaluators reserve on a cluster of these nodes."""
    gpus = resources.evaluator_gpus
    if gpus is None:
        devices = _devices(nodes, resources.evaluator_cpus)
        # So many on each GPU that all of them run at once. Ray counts in ten-thousandths.
        on_each = -(-resources.evaluators // devices) if devices else 0
        gpus = 10_000 // on_each / 10_000 if on_each else 0.0
    return Reserved("evaluator", resources.evaluators, resources.evaluator_cpus, gpus)


def _devices(nodes: list[Node], cpus: float) -> int:
    """GPUs that a process with so many processors can have."""
    if not GPU_BUILD:
        return 0
    return sum(int(node.get("GPU", 0.0)) for node in nodes if node.get("CPU", 0.0) >= cpus)


def live_nodes() -> list[Node]:
    """The nodes of the cluster that was joined."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def await_training(resources: ResourcesConfig) -> Reserved:
    """What a training reserves, once there is room for all of its processes.

    Raises:
        InputError: there is none within `resources.start_timeout_s`.
    """
    reserved = training_of(resources, live_nodes())
    _await(reserved, reserved.processes, resources.start_timeout_s)
    return reserved


def await_evaluator(resources: ResourcesConfig) -> Reserved:
    """What evaluators reserve, once there is room for one of them.

    Raises:
        InputError: there is none within `resources.start_timeout_s`.
    """
    reserved = evaluators_of(resources, live_nodes())
    _await(reserved, 1, resources.start_timeout_s)
    return reserved


@contextmanager
def wanted(bundles: list[Node]) -> Iterator[PlacementGroup]:
    """Ask for room for processes while it lasts: that tells an autoscaler to bring nodes."""
    group = placement_group(bundles)
    try:
        yield group
    finally:
        remove_placement_group(group)


def _await(reserved: Reserved, processes: int, timeout_s: int) -> None:
    with wanted([reserved.bundle] * processes) as group:
        if not group.wait(timeout_s):
            stage = f"resources.{reserved.stage}"
            raise InputError(
                f"{stage}_cpus, {stage}_gpus: {processes} × {reserved} asked, no room for "
                f"{timeout_s} s; the cluster has {_amounts(ray.cluster_resources())}, free are "
                f"{_amounts(ray.available_resources())}; end what else runs there, or set "
                "resources.start_timeout_s higher"
            )


def _amounts(there: dict[str, float]) -> str:
    return f"{there.get('CPU', 0.0):g} CPU and {there.get('GPU', 0.0):g} GPU"
