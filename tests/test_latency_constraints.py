"""Bounds on latency and memory, by a table that was measured where subnets will run."""

import json
from pathlib import Path
from typing import Any

import pytest

from automl.sam.config import check_config
from automl.sam.proposals import SubnetProposals
from automl.sam.reach import check_reachable
from automl.sam.workspace import Workspace
from search_spaces import InputError, Subnet
from trainables.latency import measure_table
from trainables.latency_memory import with_memory
from trainables.sam.encoder import elastic
from trainables.sam.parents import parent_encoder

WIDTHS = (176, 440, 704)
WORTH = [i / 10 for i in range(12)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the shipped parent at 64 px, measured in one round."""
    encoder = elastic(parent_encoder("vit_t", 64).build()).eval()
    table = measure_table(encoder, [WIDTHS] * 12, model="vit_t", rounds=1)
    path = tmp_path_factory.mktemp("table") / "latency.json"
    path.write_text(json.dumps(with_memory(encoder, table).to_dict()))
    return path


def workspace(tmp_path: Path, table: Path | None, **values: Any) -> Workspace:
    given = {"image_size": 64, "latency_table": table, **values}
    return Workspace(check_config(given, "here"), tmp_path / "out")


def first_space(study: Workspace) -> Any:
    offered = study.config.designs.space
    return study.draw_up(offered.design(offered.first_points()[0]), WORTH)


def test_costs_have_what_the_table_predicts(tmp_path: Path, path: Path) -> None:
    study = workspace(tmp_path, path)
    assert study.latency_table is not None
    space = first_space(study)
    for subnet in (space.largest, space.smallest):
        costs = study.costs(subnet)
        assert costs["latency_ms"] == study.latency_table.predict(subnet)
        assert costs["peak_memory"] == study.latency_table.predict_peak_bytes(subnet)
    assert set(workspace(tmp_path, None).costs(space.largest)) == {
        "encoder_params",
        "params",
        "encoder_macs",
    }


def test_whatever_is_proposed_keeps_bounds_on_latency_and_memory(
    tmp_path: Path, path: Path
) -> None:
    study = workspace(tmp_path, path, constraints={"latency_ms": "80%", "peak_memory": "100%"})
    check_reachable(study, WORTH)
    proposals = SubnetProposals(
        first_space(study),
        study.costs,
        study.parent_costs["encoder_macs"],
        study.constraints,
        lambda subnet: None,
        seed=0,
    )
    for number in range(20):
        found = proposals.suggest(str(number))
        assert isinstance(found, dict)
        subnet = Subnet.from_dict(found)
        assert study.costs(subnet)["latency_ms"] <= 0.8 * study.parent_costs["latency_ms"]
        proposals.on_trial_complete(str(number), {"quality": 0.5})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"constraints": {"latency_ms": "1%"}}, r"constraints\.latency_ms: \S+ can't be reached"),
        (
            {"designs": {"space": {"smallest_ratio": [0.1]}}},
            r"latency_table: \S+ is of other designs: .* 72 neurons.*; measure it with this",
        ),
        ({"image_size": 128}, "is of vit_t at 64 px, not of vit_t at 128 px"),
    ],
)
def test_what_the_table_cannot_say_is_refused(
    tmp_path: Path, path: Path, values: dict[str, Any], message: str
) -> None:
    study = workspace(tmp_path, path, **{"constraints": {"latency_ms": "90%"}, **values})
    with pytest.raises(InputError, match=message) as refused:
        check_reachable(study, WORTH)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cost", ["latency_ms", "peak_memory"])
def test_without_a_table_neither_can_be_bounded(tmp_path: Path, cost: str) -> None:
    study = workspace(tmp_path, None, constraints={cost: "50%"})
    with pytest.raises(InputError, match=rf"constraints\.{cost}: needs latency_table"):
        check_reachable(study, WORTH)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    study = workspace(tmp_path, tmp_path / "none.json", constraints={"latency_ms": 3})
    with pytest.raises(InputError, match="does not exist"):
        check_reachable(study, WORTH)
