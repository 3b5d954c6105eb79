"""A study's parts on a cluster of several nodes, which are processes on this machine."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from tiny import tiny_sam

from automl import placement
from automl.base_config import ResourcesConfig
from automl.cluster import await_nodes, connect, run_task
from automl.sam.config import check_config
from automl.sam.designs import search_designs
from automl.sam.measure import prioritise
from automl.sam.search import search_subnets
from automl.sam.train import train_design
from automl.sam.workspace import Workspace
from automl.study_log import LOG
from search_spaces import InputError
from trainables.sam.models import read_state_dict, save_state_dict
from trainables.supernet import WEIGHTS, train_supernet

# The first evaluations on two nodes wait for each other: that they end proves that both were there
# at once.
OWN = """
import time
from pathlib import Path

import ray

from trainables.sam.vit import ViTConfig

TINY = ViTConfig(64, (128,) * 4, 32, 2, (1, 3), window_size=3)
HERE = Path(__file__).parent


def met(subnet, results):
    (HERE / "met").mkdir(exist_ok=True)
    (HERE / "met" / ray.get_runtime_context().get_node_id()).touch()
    deadline = time.monotonic() + 200
    while len(list((HERE / "met").iterdir())) < 2:
        assert time.monotonic() < deadline, "no evaluation on another node"
        time.sleep(0.05)
    return {"iou": sum(result.iou for result in results)}


def slow(subnet, results):
    with (HERE / "where").open("a") as log:
        print(ray.get_runtime_context().get_node_id(), file=log)
    found = met(subnet, results)
    time.sleep(1)
    return found


def gpus(subnet, results):
    reserved = ray.get_runtime_context().get_assigned_resources()
    with (HERE / "gpus").open("a") as log:
        print(reserved.get("GPU"), file=log)
    return {"iou": sum(result.iou for result in results)}
"""
ONE_CPU = {"train_cpus": 1, "evaluator_cpus": 1}
STORE = 80 << 20


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Cluster]:
    """A head without processors, and two nodes with one each."""
    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", made.address)
        for _ in range(2):
            made.add_node(num_cpus=1, object_store_memory=STORE)
        connect(ResourcesConfig(**ONE_CPU))
        yield made
        ray.shutdown()
        made.shutdown()


def workspace_of(tmp_path: Path, splits: Path, objective: str, **resources: Any) -> Workspace:
    (tmp_path / "own.py").write_text(OWN)
    save_state_dict(tiny_sam().state_dict(), tmp_path / WEIGHTS, torch.float32)
    root = tmp_path / "out"
    root.mkdir()
    (root / "data").symlink_to(splits)
    values = {
        "model": f"{tmp_path / 'own.py'}:TINY",
        "checkpoint": tmp_path / WEIGHTS,
        "prioritise": {"score_pictures": 2, "worth_pictures": 2},
        "training": {"batch_size": 2},
        "designs": {
            "space": {"removable": [2], "expected_dropped": [1], "width_count": [2, 3]},
            "trials": 2,
            "steps": 1,
            "evaluations": 1,
        },
        "final": {"steps": 1, "evaluations": 1},
        "search": {"objective": f"{tmp_path / 'own.py'}:{objective}"},
        "resources": {**ONE_CPU, **resources},
    }
    workspace = Workspace(check_config(values, "here"), root)
    list(prioritise(workspace))
    return workspace


def search(workspace: Workspace, weights: Path, evaluations: int) -> None:
    space = workspace.config.designs.space
    design = space.design(space.first_points()[0])
    rows = search_subnets(workspace, design, 0, weights, evaluations, lambda state: None)
    assert [row["failure"] for row in rows] == [None] * evaluations


def length(tensors: list[torch.Tensor]) -> float:
    return float(torch.cat([tensor.double().flatten() for tensor in tensors]).norm())


def test_evaluators_are_on_all_nodes(tmp_path: Path, splits: Path) -> None:
    search(workspace_of(tmp_path, splits, "met", evaluators=2), tmp_path, 4)
    with_processors = {n["NodeID"] for n in ray.nodes() if "CPU" in n["Resources"]}
    assert {path.name for path in (tmp_path / "met").iterdir()} == with_processors


def test_designs_are_tried_side_by_side(tmp_path: Path, splits: Path) -> None:
    workspace = workspace_of(tmp_path, splits, "met")
    records = search_designs(workspace, 2, lambda rung, number, report: None)
    assert len({record["design"] for record in records}) == 2
    assert not any(record.get("failure") for record in records)
    assert len(list((tmp_path / "met").iterdir())) == 2


def test_a_training_on_two_nodes_equals_one_in_this_process(tmp_path: Path, splits: Path) -> None:
    workspace = workspace_of(tmp_path, splits, "met", train_workers=2)
    config = workspace.config
    design = config.designs.space.design(config.designs.space.first_points()[0])
    folder = train_design(workspace, design, 1, [], {})
    alone = workspace.prioritised(design.metric)
    before = {name: value.clone() for name, value in alone.sam.state_dict().items()}
    train_supernet(
        alone,
        workspace.space(design),
        workspace.pictures("train"),
        config.training,
        steps=1,
        horizon=1,
        prompts=config.prompts,
        seed=config.seed,
        checkpoint=None,
        report=lambda metrics, kept: None,
    )
    found, expected = read_state_dict(folder / WEIGHTS), alone.sam.state_dict()
    # Lengths over all parameters: where a gradient is rounding alone, such as at a key's bias, Adam
    # makes a step of it, and two processes round otherwise than one.
    step = length([expected[name] - before[name] for name in before])
    apart = length([expected[name] - found[name] for name in before])
    assert step > 1e-3
    assert apart < 1e-2 * step


def test_what_finds_no_room_is_an_error_in_time(tmp_path: Path, splits: Path) -> None:
    workspace = workspace_of(tmp_path, splits, "met", train_workers=2, start_timeout_s=1)
    space = workspace.config.designs.space
    design = space.design(space.first_points()[0])
    with pytest.raises(InputError, match="3 CPU asked, the largest node has 1"):
        connect(ResourcesConfig(train_cpus=3))

    def one() -> Iterator[int]:
        yield 1

    @ray.remote(num_cpus=1)
    class Other:
        def there(self) -> bool:
            return True

    others = [Other.remote() for _ in range(2)]  # type: ignore[attr-defined]
    ray.get([other.there.remote() for other in others])
    said = (
        r"resources.{0}_cpus, resources.{0}_gpus: {1} × 1 CPU and 0 GPU asked, no room for 1 s; "
        r"the cluster has 2 CPU and 0 GPU, free are 0 CPU and 0 GPU; .* resources.start_timeout_s"
    )
    with pytest.raises(InputError, match=said.format("evaluator", 1)):
        next(run_task(one, workspace.config.resources))
    with pytest.raises(InputError, match=said.format("evaluator", 1)):
        search(workspace, tmp_path, 1)
    with pytest.raises(InputError, match=said.format("train", 2)):
        train_design(workspace, design, 1, [], {})
    for other in others:
        ray.kill(other)
    assert list(run_task(one, workspace.config.resources)) == [1]


def test_a_gpu_is_waited_for_and_shared(
    cluster: Cluster, tmp_path: Path, splits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "GPU_BUILD", True)
    workspace = workspace_of(tmp_path, splits, "gpus", evaluators=2)
    asked, said = ResourcesConfig(**ONE_CPU, evaluator_gpus=1, start_timeout_s=600), list[str]()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(await_nodes, asked, said.append)
        while not said:
            time.sleep(0.1)
        cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
        waiting.result(300)
    assert "1 GPU asked, the largest node has 0" in said[0]
    assert "for 600 s more nodes are waited for" in said[0]
    connect(asked)
    search(workspace, tmp_path, 3)
    assert (tmp_path / "gpus").read_text().split() == ["0.5"] * 3


def test_a_node_that_dies_takes_no_evaluation_with_it(
    cluster: Cluster, tmp_path: Path, splits: Path
) -> None:
    workspace = workspace_of(tmp_path, splits, "slow", evaluators=2)
    where = tmp_path / "where"
    with ThreadPoolExecutor() as pool:
        searching = pool.submit(search, workspace, tmp_path, 6)
        while not where.exists() or len(set(where.read_text().split())) < 2:
            assert not searching.done()
            time.sleep(0.1)
        lost = where.read_text().split()[0]
        (node,) = (node for node in cluster.worker_nodes if node.node_id == lost)
        cluster.remove_node(node, allow_graceful=False)
        searching.result(300)
    assert "it is tried again" in (workspace.root / LOG).read_text()
    assert {path.name for path in (tmp_path / "met").iterdir()} >= {lost}
    assert where.read_text().split()[-1] != lost
