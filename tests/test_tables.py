"""What tables show: heads only where something has fewer; the bounds that are asked for."""

from typing import Any

from rich.table import Table

from automl.sam.tables import designs_table, front_table, profile_table, reach_table

PARENT: dict[str, Any] = {
    "subnet": "parent",
    "layers": [0, 1],
    "mlp_widths": [8, 16],
    "heads": [],
    "encoder_params": 2_000_000,
    "params": 3_000_000,
    "encoder_macs": 4_000_000_000,
    "latency_ms": 2.0,
    "miou_val": 0.6,
    "miou_test": 0.62,
    "full_heads": [2, 4],
}
SMALLER = {**PARENT, "subnet": "aaaa", "layers": [1], "mlp_widths": [8], "encoder_macs": 10**9}
DESIGN = {
    "design": "dddd",
    "metric": "wanda",
    "expected_dropped": 1.0,
    "removable": 1,
    "width_count": 2,
    "smallest_ratio": 0.5,
    "smallest_heads": 1.0,
    "steps": 8,
    "space_size": 8.0,
    "front_size": 2,
    "hypervolume": 0.4,
}


def columns(table: Table) -> dict[str, list[str]]:
    return {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}


def test_a_front_of_whole_attentions_has_no_column_of_heads() -> None:
    shown = columns(front_table([SMALLER], PARENT))
    assert list(shown)[:4] == ["subnet", "layers", "mean MLP", "enc. params"]
    assert (shown["layers"], shown["mean MLP"]) == (["2", "1"], ["100%", "50%"])
    # As a parent and rows are that were written before heads were elastic.
    older = [{k: v for k, v in row.items() if "heads" not in k} for row in (SMALLER, PARENT)]
    assert columns(front_table(older[:1], older[1])) == shown


def test_a_front_with_fewer_heads_has_their_mean_share() -> None:
    fewer = {**SMALLER, "subnet": "bbbb", "heads": [3], "encoder_macs": 10**8}
    both = {**PARENT, "subnet": "cccc", "heads": [1, 1], "encoder_macs": 10**7}
    shown = columns(front_table([both, SMALLER, fewer], PARENT))
    assert shown["subnet"] == ["parent", "aaaa", "bbbb", "cccc"]
    assert shown["mean heads"] == ["100%", "100%", "75%", "38%"]


def test_a_profile_has_heads_where_its_subnets_have_fewer() -> None:
    rows = [
        {**row, "name": name, "smaller_by": 0.0, "peak_memory": None}
        for name, row in (("largest", PARENT), ("smallest", SMALLER))
    ]
    profile = {"model": "m", "image_size": 64, "full_heads": [2, 4], "subnets": rows}
    assert "mean heads" not in columns(profile_table(profile))
    rows[1]["heads"] = [2]
    assert columns(profile_table(profile))["mean heads"] == ["100%", "50%"]


def test_designs_have_their_fewest_heads_where_one_offers_fewer() -> None:
    assert "fewest heads" not in columns(designs_table([DESIGN]))
    rows = [DESIGN, {**DESIGN, "smallest_heads": 0.5, "hypervolume": 0.5}]
    assert columns(designs_table(rows))["fewest heads"] == ["0.5", "1"]


def test_designs_of_the_last_rung_come_first_and_failed_ones_are_named() -> None:
    later = {**DESIGN, "design": "eeee", "steps": 40, "hypervolume": 0.3}
    failed = {**DESIGN, "design": "ffff", "hypervolume": 0.0, "failure": "the loss is nan"}
    shown = columns(designs_table([failed, DESIGN, later]))
    assert shown["design"] == ["eeee", "dddd", "ffff"]
    assert shown["hypervolume"] == ["0.3000", "0.4000", "failed"]


def test_bounds_are_shown_as_they_are_asked_for() -> None:
    asked = [(None, None), (None, 5000.0), (3000.0, None), (3000.0, 5000.0)]
    reach = {
        f"cost_{i}": {
            "least": 2000,
            "most": 8000,
            "floor": floor,
            "ceiling": ceiling,
            "can_be_kept": i != 3,
        }
        for i, (floor, ceiling) in enumerate(asked)
    }
    shown = columns(reach_table({"designs": 1, "reachable": reach}))
    assert shown["constraint"] == [
        "–",
        "≤ 5,000: can be kept",
        "≥ 3,000: can be kept",
        "3,000 to 5,000: can't be reached",
    ]
