"""What the inner search makes of its rows; the search itself runs in test_study.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl.ledger import Ledger, Row
from automl.sam.config import check_config
from automl.sam.front import balanced, front_rows, hypervolume_history
from automl.sam.ledger import SUBNETS
from automl.sam.search import search_state, stopping_metrics
from automl.sam.stages import named_subnets
from automl.sam.subnet_trial import rivals_of
from automl.sam.workspace import Workspace


def row(subnet: str, macs: int, *mious: float, **values: Any) -> Row:
    """Evaluated after rungs of 2, 4 and 8 pictures with an object each, as far as there are."""
    pictures = (2, 4, 8)[len(mious) - 1]
    stopped = pictures < 8
    found = {
        "encoder_macs": macs,
        "pictures": pictures,
        "stopped": stopped,
        "miou_val": mious[-1],
        "rung_mious": list(mious),
        "object_ious": None if stopped else [mious[-1]] * pictures,
    }
    identity = {"design": "d", "weights": "d@3", "split": "val"}
    return {"subnet": subnet, "layers": [0], "mlp_widths": [8], **identity, **found, **values}


ROWS = [
    row("a", 30, 0.9, 0.7, 0.8),
    row("b", 20, 0.6, 0.6, 0.6),
    row("c", 25, 0.99),
    row("d", 10, 0.7, 0.5, 0.5),
]


def test_rivals_are_those_that_were_evaluated_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "part.parquet", SUBNETS)
    assert rivals_of([]) == []
    for each in ROWS:
        ledger.record(each)
    rivals = rivals_of(Ledger(ledger.path, SUBNETS).rows())
    assert [rival.encoder_macs for rival in rivals] == [30, 20, 10]
    assert rivals[0].object_ious.dtype == np.float32
    assert rivals[0].object_ious.tolist() == np.float32([0.8] * 8).tolist()


def test_what_was_stopped_is_never_on_the_front_but_counts(tmp_path: Path) -> None:
    workspace = Workspace(check_config({}, "here"), tmp_path)
    assert [row["subnet"] for row in front_rows(workspace, ROWS)] == ["d", "b", "a"]
    state = search_state(workspace, ROWS)
    assert (state.evaluations, state.front_size) == (4, 3)
    assert state.hypervolume == search_state(workspace, [ROWS[i] for i in (0, 1, 3)]).hypervolume


@pytest.mark.parametrize(
    ("floor", "hypervolume", "best_balance"),
    [
        (0.0, 0.9 * 0.5 + 0.6 * 0.1 + 0.4 * 0.2, "d"),
        (0.55, 0.6 * 0.05 + 0.4 * 0.2, "a"),
        (0.9, 0.0, "a"),
    ],
)
def test_what_is_below_the_floor_is_worth_nothing(
    floor: float, hypervolume: float, best_balance: str, tmp_path: Path
) -> None:
    workspace = Workspace(check_config({"search": {"quality_floor": floor}}, "here"), tmp_path)
    parent = workspace.parent_costs["encoder_macs"]
    shares = {"a": 0.6, "b": 0.4, "c": 0.5, "d": 0.1}
    rows = [{**row, "encoder_macs": shares[row["subnet"]] * parent} for row in ROWS]
    front = front_rows(workspace, rows)
    assert [row["subnet"] for row in front] == ["d", "b", "a"], "it is shown all the same"
    assert search_state(workspace, rows).hypervolume == pytest.approx(hypervolume)
    assert hypervolume_history(rows, parent, floor)[-1] == pytest.approx(hypervolume)
    assert balanced(workspace, front)["subnet"] == best_balance


def test_models_are_named_after_the_best_and_each_bounded_cost(tmp_path: Path) -> None:
    values = {"constraints": {"encoder_params": "50%", "encoder_macs": "<=80%"}}
    workspace = Workspace(check_config(values, "here"), tmp_path)
    front = front_rows(workspace, [{**row, "encoder_params": row["encoder_macs"]} for row in ROWS])
    assert named_subnets(workspace, front) == {
        "best": "a",
        "encoder_params": "a",
        "encoder_macs": "a",
        "balanced": "a",
        "smallest": "d",
    }


def test_it_is_said_what_stopping_saved_and_how_well_parts_rank() -> None:
    found = stopping_metrics(ROWS)
    assert found["stopped"] == 0.25
    assert found["pictures_seen"] == (3 * 8 + 2) / (4 * 8)
    # a, b, d rank 3, 1, 2 after the first rung, 3, 2, 1 after the second and on all pictures.
    assert found["rank_correlation_1"] == pytest.approx(0.5)
    assert found["rank_correlation_2"] == pytest.approx(1)
    alike = stopping_metrics([row("a", 1, 0.5, 0.5, 0.5), row("b", 2, 0.5, 0.5, 0.5)])
    assert set(alike) == {"stopped", "pictures_seen"}
