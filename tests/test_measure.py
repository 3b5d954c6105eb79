"""Calibration from files to `importance.parquet`, in this process."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tiny import tiny_sam

from automl.config import check_config
from automl.measure import prioritise, prioritise_steps
from automl.workspace import Workspace
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


def test_a_design_has_the_neurons_in_the_order_of_its_score(study) -> None:
    workspace = study({}, {"metric": ["taylor", "activation"]})
    list(prioritise(workspace))
    for metric in ("taylor", "activation"):
        scores = SCORES[metric](Supernet(tiny_sam()), workspace.calibration(), 0)
        reordered = workspace.prioritised(metric).encoder.mlps
        plain = Supernet(tiny_sam()).encoder.mlps
        for new, old, order in zip(reordered, plain, order_of(scores), strict=True):
            assert torch.equal(new.first.weight, old.first.weight[order])


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
