"""Calibration from files to `importance.parquet`, in this process."""

import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tiny import tiny_sam

from automl.sam.config import check_config
from automl.sam.measure import measure_parent, prioritise, prioritise_steps
from automl.sam.workspace import Workspace
from search_spaces import InputError
from search_spaces.drop_probabilities import drop_probabilities
from trainables.sam.models import save_state_dict
from trainables.sam.scores import SCORES, order_of
from trainables.sam.supernet import Supernet

PARENT = """
from trainables.sam.vit import ViTConfig
TINY = ViTConfig(64, (128,) * 4, 32, 2, (1, 3), window_size=3)
"""


@pytest.fixture
def study(tmp_path: Path, splits: Path):
    (tmp_path / "parent.py").write_text(PARENT)
    save_state_dict(tiny_sam().state_dict(), tmp_path / "tiny.safetensors", torch.float32)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").symlink_to(splits)

    def of(prioritise: dict[str, object], space: dict[str, object]) -> Workspace:
        values = {
            "model": f"{tmp_path / 'parent.py'}:TINY",
            "checkpoint": tmp_path / "tiny.safetensors",
            "prioritise": {"score_pictures": 3, "worth_pictures": 2, **prioritise},
            "designs": {"space": space},
        }
        return Workspace(check_config(values, "here"), tmp_path / "out")

    return of


def test_only_scores_that_a_design_may_use_are_computed(study) -> None:
    workspace = study({}, {"metric": ["fisher", "random", "fisher"]})
    done = list(prioritise(workspace))
    assert done == list(range(1, prioritise_steps(workspace) + 1))
    names = pq.read_schema(workspace.root / "importance.parquet").names
    assert [name for name in names if name.startswith("score_")] == ["score_fisher", "score_random"]


def test_costs_are_counted_once_for_all_processes(study, monkeypatch) -> None:
    workspace = study({}, {})
    sent = pickle.dumps(workspace)
    monkeypatch.setattr(
        "trainables.costs._count_macs", lambda encoder: pytest.fail("counted again")
    )
    assert pickle.loads(sent).parent().costs == workspace.cost_table


def test_a_design_has_the_neurons_in_the_order_of_its_score(study) -> None:
    workspace = study({}, {"metric": ["taylor", "activation"]})
    list(prioritise(workspace))
    for metric in ("taylor", "activation"):
        plain = Supernet(tiny_sam())
        neurons = plain.encoder.neurons
        scores = SCORES[metric](plain, workspace.calibration(), 0, neurons)
        prioritised = workspace.prioritised(metric).encoder
        for new, old, order in zip(prioritised.neurons, neurons, order_of(scores), strict=True):
            assert torch.equal(new.first.weight, old.first.weight[order])
        for new, old in zip(
            prioritised.attention_heads, plain.encoder.attention_heads, strict=True
        ):
            assert torch.equal(new.first.weight, old.first.weight)


def test_heads_are_scored_and_ordered_where_designs_offer_fewer(study) -> None:
    workspace = study({}, {"metric": ["magnitude", "wanda"], "smallest_heads": [1.0, 0.5]})
    list(prioritise(workspace))
    rows = workspace.importance()
    assert [name for name in rows[0] if name.startswith("score_")] == [
        "score_magnitude",
        "score_magnitude_heads",
        "score_wanda",
        "score_wanda_heads",
    ]
    assert [len(row["score_wanda_heads"]) for row in rows] == [2] * 4
    # A design that is chosen later leaves the scores as they are.
    space = workspace.config.designs.space
    design = space.design({**space.first_points()[0], "smallest_heads": 0.5})
    workspace.choose_design(design)
    columns = [f"score_{metric}_heads" for metric in workspace.metrics]
    assert [[row[c] for c in columns] for row in workspace.importance()] == [
        [row[c] for c in columns] for row in rows
    ]
    assert workspace.space(design).heads == ((1, 2),) * 4
    plain, moved = Supernet(tiny_sam()).encoder.attention_heads, 0
    for metric in ("magnitude", "wanda"):
        prioritised = workspace.prioritised(metric).encoder.attention_heads
        for new, old, row in zip(prioritised, plain, rows, strict=True):
            first, second = row[f"score_{metric}_heads"]
            order = [1, 0] if second > first else [0, 1]
            moved += order == [1, 0]
            whole = old.first.weight.view(3, 2, 16, 32)[:, order].reshape(96, 32)
            assert torch.equal(new.first.weight, whole)
    assert 0 < moved < 8


def test_the_parents_figures_have_its_heads_where_they_are_elastic(study) -> None:
    workspace = study({}, {"metric": ["magnitude"]})
    for row in measure_parent(workspace):
        assert (row["heads"], row["full_heads"]) == ([], [2] * 4)


@pytest.mark.parametrize("kind", ["miou", "embedding"])
def test_the_configuration_chooses_what_drop_probabilities_follow(study, kind: str) -> None:
    workspace = study({"worth": kind}, {"metric": ["magnitude"], "removable": [3]})
    list(prioritise(workspace))
    rows = workspace.importance()
    column = {"miou": "miou_lost", "embedding": "embedding_error"}[kind]
    worth = [row[column] for row in rows]
    assert workspace.worth() == worth
    expected = drop_probabilities(worth, expected_dropped=2, removable=3, temperature=0.1, cap=0.5)
    assert tuple(row["drop_probability"] for row in rows) == expected
    assert all((row["miou_lost"] is None) == (kind == "embedding") for row in rows)


def test_given_probabilities_stand_in_the_table(study) -> None:
    workspace = study({}, {"metric": ["magnitude"], "probabilities": {2: 0.75}})
    list(prioritise(workspace))
    assert [row["drop_probability"] for row in workspace.importance()] == [0, 0, 0.75, 0]


OWN = """
def biases(supernet, batches, seed, units):
    return [layer.first.bias.detach().double().abs() for layer in units]

def too_few(supernet, batches, seed, units):
    return [layer.first.bias.detach().double()[1:] for layer in units]

wanda = biases
"""


def test_a_score_of_ones_own_orders_neurons(study, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    metric = f"{tmp_path / 'mine.py'}:biases"
    workspace = study({}, {"metric": [metric]})
    list(prioritise(workspace))
    names = pq.read_schema(workspace.root / "importance.parquet").names
    assert [name for name in names if name.startswith("score_")] == ["score_biases"]
    for neurons in workspace.prioritised(metric).encoder.neurons:
        scores = neurons.first.bias.abs()
        assert torch.equal(scores, scores.sort(descending=True).values)


def test_a_score_of_ones_own_that_does_not_fit_is_told_so(study, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    with pytest.raises(InputError, match=r"too_few gave tensors of shapes .*\(127,\).*\(128,\)"):
        list(prioritise(study({}, {"metric": [f"{tmp_path / 'mine.py'}:too_few"]})))
    with pytest.raises(InputError, match=r"designs.space.metric: .* no function 'none'"):
        study({}, {"metric": [f"{tmp_path / 'mine.py'}:none"]})
    with pytest.raises(InputError, match="two scores are named wanda"):
        study({}, {"metric": ["wanda", f"{tmp_path / 'mine.py'}:wanda"]})
