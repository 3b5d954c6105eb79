"""What is known before any training: no data, no importance, nothing written."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from automl.cli import main
from automl.output import claim_output
from automl.sam.config import check_config, load_config
from automl.sam.inputs import check_inputs
from automl.sam.reach import check_reachable, reachable
from automl.sam.workspace import Workspace
from search_spaces import InputError, Subnet
from trainables.costs import latency_ms
from trainables.sam.layer_worth import LayerWorth
from trainables.sam.models import save_state_dict

PARENT = """
from trainables.sam.vit import ViTConfig
TINY = ViTConfig(64, (128, 64, 128, 96), 32, 2, (1, 3), window_size=3)
"""
DESIGNS = {
    "metric": ["magnitude"],
    "expected_dropped": [1.0],
    "removable": [2, 1],
    "temperature": [0.1],
    "cap": [0.5],
    "width_count": [2],
    "smallest_ratio": [0.25],
    "spacing": ["linear"],
}


@pytest.fixture
def parent(tmp_path: Path) -> str:
    (tmp_path / "parent.py").write_text(PARENT)
    return f"{tmp_path / 'parent.py'}:TINY"


def workspace_of(tmp_path: Path, parent: str, **more: object) -> Workspace:
    values = {"model": parent, "designs": {"space": {**DESIGNS, **more.pop("space", {})}}, **more}
    return Workspace(check_config(values, "here"), tmp_path / "out")


def narrow(gone: tuple[int, ...], heads: int | None = None) -> Subnet:
    widths = (32, 16, 32, 24)
    kept = tuple(i for i in range(4) if i not in gone)
    counts = () if heads is None else (heads,) * len(kept)
    return Subnet(kept, tuple(widths[i] for i in kept), counts)


def test_without_worth_the_range_is_that_of_any_choice_of_layers(
    tmp_path: Path, parent: str
) -> None:
    workspace = workspace_of(tmp_path, parent)
    ranges = reachable(workspace, None)
    pairs = [workspace.costs(narrow(gone)) for gone in itertools.combinations(range(4), 2)]
    for cost, found in ranges.items():
        assert found.least == min(costs[cost] for costs in pairs)
        assert found.most == workspace.parent_costs[cost]


def test_no_worth_reaches_less_than_the_range_without_it(tmp_path: Path, parent: str) -> None:
    for space in ({}, {"protected": [0]}, {"removable": [3]}):
        workspace = workspace_of(tmp_path, parent, space=space)
        ranges = reachable(workspace, None)
        least = {cost: [] for cost in ranges}
        for worth in itertools.permutations((0.3, 0.0, 0.01, 0.0)):
            for cost, found in reachable(workspace, worth).items():
                least[cost].append(found.least)
        for cost, found in ranges.items():
            assert found.least <= min(least[cost])
        assert any(found.least == min(least[cost]) for cost, found in ranges.items())


def test_known_worth_narrows_the_range_to_the_layers_that_go(tmp_path: Path, parent: str) -> None:
    workspace = workspace_of(tmp_path, parent)
    found = reachable(workspace, [0.5, 0.0, 0.5, 0.0])
    smallest = workspace.costs(narrow((1, 3)))
    assert {cost: bounds.least for cost, bounds in found.items()} == smallest


@pytest.mark.parametrize("worth", [None, [0.5, 0.0, 0.5, 0.0]])
def test_the_fewest_heads_on_offer_are_in_reach(tmp_path: Path, parent: str, worth) -> None:
    workspace = workspace_of(tmp_path, parent, space={"smallest_heads": [1.0, 0.5]})
    pairs = itertools.combinations(range(4), 2) if worth is None else [(1, 3)]
    costs = [workspace.costs(narrow(gone, heads=1)) for gone in pairs]
    for cost, found in reachable(workspace, worth).items():
        assert found.least == min(each[cost] for each in costs)
        assert found.least < reachable(workspace_of(tmp_path, parent), worth)[cost].least
        assert found.most == workspace.parent_costs[cost]


def test_given_probabilities_say_which_layers_go(tmp_path: Path, parent: str) -> None:
    given = {"model": parent, "designs": {"space": {"probabilities": {0: 0.5, 2: 0.1}}}}
    workspace = Workspace(check_config(given, "here"), tmp_path / "out")
    smallest = workspace.costs(narrow((0, 2)))
    for worth in (None, [0.5, 0.0, 0.5, 0.0]):
        found = reachable(workspace, worth)
        assert {cost: bounds.least for cost, bounds in found.items()} == smallest


def test_a_constraint_out_of_reach_is_refused_before_anything_runs(
    tmp_path: Path, parent: str
) -> None:
    workspace = workspace_of(tmp_path, parent, constraints={"encoder_macs": "1%"})
    with pytest.raises(
        InputError, match=r"constraints\.encoder_macs: \d+ can't be reached; .*100%"
    ):
        check_inputs(workspace, ["prioritise"])
    check_reachable(workspace_of(tmp_path, parent, constraints={"encoder_macs": "95%"}), None)


def test_a_range_must_reach_into_what_the_designs_reach(tmp_path: Path, parent: str) -> None:
    plain = workspace_of(tmp_path, parent)
    least, most = reachable(plain, None)["params"].least, plain.parent_costs["params"]
    for kept in (f">={most}", f"<={least}", f"1..{least}", f"{most}..{2 * most}", ">=100%"):
        check_reachable(workspace_of(tmp_path, parent, constraints={"params": kept}), None)
    for text, bound in (
        (f">={most + 1}", most + 1),
        (f"{most + 2}..{most + 3}", most + 2),
        (f"1..{least - 1}", least - 1),
    ):
        workspace = workspace_of(tmp_path, parent, constraints={"params": text})
        message = rf"constraints\.params: {bound} can't be reached; .* {least} to {most} \("
        with pytest.raises(InputError, match=message):
            check_reachable(workspace, None)
    with pytest.raises(InputError, match=r"constraints\.params: .* above its ceiling"):
        check_reachable(workspace_of(tmp_path, parent, constraints={"params": "9..8"}), None)


def test_the_command_needs_no_data_and_writes_nothing(
    tmp_path: Path,
    parent: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    asked = [f"model={parent}", "image_size=null", "data=nowhere", "constraints.params=1"]
    assert main(["profile", "--json", *asked]) == 0
    value = json.loads(capsys.readouterr().out)
    assert sorted(tmp_path.iterdir()) == before
    largest, middle, smallest = value["subnets"]
    assert [row["name"] for row in value["subnets"]] == ["largest", "middle", "smallest"]
    workspace = workspace_of(tmp_path, parent)
    for row in value["subnets"]:
        costs = workspace.costs(Subnet.from_dict(row))
        assert {name: row[name] for name in costs} == costs
        assert row["latency_ms"] > 0
        if sys.platform == "linux":
            assert row["peak_memory"] is not None
    assert largest["smaller_by"] == 0 < middle["smaller_by"] < smallest["smaller_by"]
    assert value["worth"] == "unknown"
    assert value["space_size"] > 1
    assert value["reachable"]["params"]["ceiling"] == 1
    assert not value["reachable"]["params"]["can_be_kept"]
    assert value["reachable"]["encoder_macs"]["ceiling"] is None
    assert value["reachable"]["encoder_macs"]["can_be_kept"]


def test_the_table_is_readable_and_importance_is_used_where_it_is_there(
    tmp_path: Path, parent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    config = load_config(
        Path(__file__).parent.parent / "configs" / "quickstart.yaml",
        [f"model={parent}", "image_size=null"],
    )
    workspace = Workspace(config, output)
    claim_output(workspace)
    space = config.designs.space
    worth = [LayerWorth(i, w, 0.1) for i, w in enumerate((0.2, 0.0, 0.3, 0.1))]
    scores = {f"score_{name}": [torch.zeros(8)] * 4 for name in ("wanda", "magnitude")}
    workspace.write_importance(worth, scores, space.design(space.first_points()[0]))
    arguments = ["--output", str(output), f"model={parent}", "image_size=null"]
    assert main(["profile", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "Layer worth was measured." in shown
    for word in ("parent, the largest", "middle", "smallest", "peak memory", "encoder_macs"):
        assert word in shown
    assert max(len(line) for line in shown.splitlines()) <= 120


def test_a_checkpoint_of_another_model_is_refused(
    tmp_path: Path, sam, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.safetensors"
    save_state_dict(sam.state_dict(), path, torch.float32)
    arguments = ["--output", str(tmp_path / "out"), f"checkpoint={path}"]
    assert main(["profile", *arguments]) == 2
    assert f"{path} is no vit_t" in capsys.readouterr().err


def test_slow_subnets_are_run_less_often(supernet, space) -> None:
    ran = []
    supernet.encoder.register_forward_hook(lambda *_: ran.append(1))
    assert latency_ms(supernet.encoder, space.smallest, budget_s=0) > 0
    assert len(ran) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_resident_memory_is_its_peak_and_not_what_is_left() -> None:
    # In a process of its own, as it is used: other threads' memory would count.
    code = """
import torch
from trainables.footprint import ResidentMemory
torch.ones(2**25)  # what was there before must not hide anything
memory = ResidentMemory()
torch.ones(2**24)  # 64 MiB
torch.ones(2**23)
print(memory.grown())
"""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert 60 * 2**20 < int(done.stdout) < 90 * 2**20, done.stderr
