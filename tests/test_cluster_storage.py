"""An output directory that not every node reaches, on a cluster of two nodes of this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from automl.cluster import check_storage
from search_spaces import InputError

# A namespace of its own for mounts makes a node that has another directory at the same path.
UNSHARE = ["unshare", "--mount", "--map-root-user"]
MOUNTS = [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    ray.init(made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_each_node_must_reach_the_output_directory(cluster: Cluster, tmp_path: Path) -> None:
    check_storage(tmp_path)
    cluster.add_node(num_cpus=1)
    check_storage(tmp_path)
    assert list(tmp_path.iterdir()) == []
    if subprocess.run(MOUNTS, capture_output=True).returncode:
        pytest.skip("no mount namespaces here: no node can be cut off from the directory")
    program = Path(sys.executable).with_name("ray")
    start = f"{program} start --address={cluster.address} --num-cpus=1 --block"
    apart = subprocess.Popen(
        [*UNSHARE, "sh", "-c", f"mount -t tmpfs none {tmp_path} && exec {start}"],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_nodes(3)
        with pytest.raises(InputError, match=r"--output: node .* does not reach") as caught:
            check_storage(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert list(tmp_path.iterdir()) == []
    finally:
        apart.terminate()
        apart.wait(30)


def wait_for_nodes(count: int) -> None:
    deadline = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) < count:
        assert time.monotonic() < deadline, "the node did not join"
        time.sleep(0.2)
