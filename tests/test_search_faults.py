"""What the inner search does when evaluations fail, on Ray and a tiny SAM."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
import torch
from ray import tune
from tiny import tiny_sam

from automl.cluster import connect
from automl.halving import Budget
from automl.ledger import Row
from automl.sam import designs
from automl.sam.config import check_config
from automl.sam.front import front_rows
from automl.sam.measure import prioritise
from automl.sam.search import search_state, search_subnets
from automl.sam.workspace import Workspace
from automl.study_log import LOG
from automl.trials import SearchFailedError
from search_spaces import InputError
from trainables.sam.models import save_state_dict
from trainables.supernet import WEIGHTS

OWN = """
import os
import signal
from pathlib import Path

from trainables.sam.vit import ViTConfig

TINY = ViTConfig(64, (128,) * 4, 32, 2, (1, 3), window_size=3)
CALLS = Path(__file__).with_name("calls")


def evaluated(subnet):
    with CALLS.open("a") as calls:
        print(subnet.key, file=calls)
    return CALLS.read_text().splitlines().count(subnet.key)


def fragile(subnet, results):
    times = evaluated(subnet)
    if subnet.depth == 3:
        raise MemoryError("out of memory")
    if subnet.depth == 4 and times == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"iou": sum(result.iou for result in results)}


def hopeless(subnet, results):
    raise MemoryError("out of memory")


def mistaken(subnet, results):
    return 0.5
"""


@pytest.fixture(scope="module", autouse=True)
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")
        connect(check_config({"resources": {"evaluator_cpus": 1}}, "here").resources)
        yield
        ray.shutdown()


def test_a_trial_of_a_design_goes_on_in_a_new_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_once(flat: dict[str, Any], workspace: Workspace, budget: Budget) -> None:
        died = workspace.root / "died"
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        record = {"design": "d", "steps": budget.steps, "hypervolume": 0.5, "failure": None}
        tune.report({"phase": "done", "hypervolume": 0.5, "record": record})

    budget = {"steps": 4, "evaluations": 4}
    values = {"designs": {"trials": 1, **budget}, "final": budget}
    workspace = Workspace(check_config(values, "here"), tmp_path)
    monkeypatch.setattr(designs, "score_design", dies_once)
    told: list[Any] = []
    (record,) = designs.search_designs(workspace, 1, lambda *report: told.append(report))
    assert record["hypervolume"] == 0.5
    assert [report["phase"] for _, _, report in told] == ["done"]
    log = (tmp_path / LOG).read_text()
    assert log.count("the trial of a design failed: ") == 1
    assert log.endswith("it goes on from what is on disk\n")


def test_a_mistake_of_the_users_ends_the_search_over_designs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(flat: dict[str, Any], workspace: Workspace, budget: Budget) -> None:
        raise InputError("search.objective: there is none")

    workspace = Workspace(check_config({"designs": {"trials": 3}}, "here"), tmp_path)
    monkeypatch.setattr(designs, "score_design", refuses)
    with pytest.raises(InputError, match=r"search\.objective: there is none"):
        designs.search_designs(workspace, 1, lambda *report: None)
    assert (tmp_path / LOG).read_text().count("the trial of a design failed: ") == 1


def searched(tmp_path: Path, splits: Path, objective: str, evaluations: int) -> Any:
    (tmp_path / "own.py").write_text(OWN)
    save_state_dict(tiny_sam().state_dict(), tmp_path / WEIGHTS, torch.float32)
    root = tmp_path / "out"
    if not root.exists():
        root.mkdir()
        (root / "data").symlink_to(splits)
    values = {
        "model": f"{tmp_path / 'own.py'}:TINY",
        "checkpoint": tmp_path / WEIGHTS,
        "prioritise": {"score_pictures": 2, "worth_pictures": 2},
        "designs": {"space": {"removable": [2], "expected_dropped": [1], "width_count": [3]}},
        "search": {"objective": f"{tmp_path / 'own.py'}:{objective}"},
        "resources": {"evaluator_cpus": 1},
    }
    workspace = Workspace(check_config(values, "here"), root)
    list(prioritise(workspace))
    space = workspace.config.designs.space
    design = space.design(space.first_points()[0])
    told: list[Any] = []
    rows = search_subnets(workspace, design, 0, tmp_path, evaluations, told.append)
    return workspace, rows, told


def test_what_fails_is_tried_again_then_recorded_and_the_search_goes_on(
    tmp_path: Path, splits: Path
) -> None:
    workspace, rows, told = searched(tmp_path, splits, "fragile", 6)
    assert len(rows) == 6
    failed = {row["subnet"]: row for row in rows if row["failure"]}
    assert set(failed) == {row["subnet"] for row in rows if len(row["layers"]) == 3}
    assert failed
    calls = (tmp_path / "calls").read_text().splitlines()
    for row in rows:
        again = 1 if len(row["layers"]) == 2 else 2  # killed once, or out of memory each time
        assert calls.count(row["subnet"]) == again
    for row in failed.values():
        assert row["failure"] == "out of memory"
        assert row["miou_val"] is None
        assert row["encoder_macs"] > 0
    assert not set(failed) & {row["subnet"] for row in front_rows(workspace, rows)}
    assert told[-1] == search_state(workspace, rows)
    log = (workspace.root / LOG).read_text()
    for key in failed:
        assert log.count(f"subnet {key} failed: out of memory; it is tried again") == 1
        assert log.count(f"subnet {key} could not be evaluated: out of memory") == 1
    killed = {row["subnet"] for row in rows if len(row["layers"]) == 4}
    assert all(log.count(f"the evaluation of subnet {key} failed: ") == 1 for key in killed)
    # The ledger is what is known: nothing that failed is tried again.
    _, more, _ = searched(tmp_path, splits, "fragile", 7)
    assert more[:6] == rows
    calls = (tmp_path / "calls").read_text().splitlines()
    assert all(calls.count(subnet) == 2 for subnet in failed)


@pytest.mark.parametrize(
    ("objective", "error", "said", "tried"),
    [
        ("hopeless", SearchFailedError, "3 subnets in a row .* out of memory", 3),
        ("mistaken", InputError, "search.objective: mistaken gave 0.5; give metrics", 0),
    ],
)
def test_a_search_that_can_only_fail_ends(
    tmp_path: Path, splits: Path, objective: str, error: type, said: str, tried: int
) -> None:
    with pytest.raises(error, match=said):
        searched(tmp_path, splits, objective, 9)
    parts = list((tmp_path / "out").glob("work/ledger/*.parquet"))
    rows: list[Row] = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [bool(row["failure"]) for row in rows] == [True] * tried
