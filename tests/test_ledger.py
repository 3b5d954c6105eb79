from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from automl.ledger import SCHEMA, Ledger, read_rows


def row(subnet: str, **values: Any) -> dict[str, Any]:
    identity = {"design": "d", "weights": "d@3", "split": "val", "pictures": 8}
    return {"subnet": subnet, "layers": [0, 2], "mlp_widths": [8, 8], **identity, **values}


def test_what_was_recorded_is_there_for_the_next_reader(tmp_path: Path) -> None:
    path = tmp_path / "parts" / "d@3.parquet"
    ledger = Ledger(path)
    ledger.record(row("a", miou_val=0.5))
    ledger.record(row("b", miou_val=0.25))
    again = Ledger(path)
    assert [r["subnet"] for r in again.rows()] == ["a", "b"]
    found = again.find("b", "val")
    assert found is not None
    assert found["miou_val"] == 0.25
    assert pq.read_schema(path).names == SCHEMA.names


def test_an_evaluation_is_recorded_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "part.parquet")
    ledger.record(row("a", miou_val=0.5))
    with pytest.raises(ValueError, match="evaluated twice"):
        ledger.record(row("a", miou_val=0.6))
    ledger.record(row("a", split="test"))
    ledger.record(row("a", pictures=16))
    ledger.record(row("a", weights="d@9"))
    assert len(Ledger(ledger.path)) == 4


def test_nothing_half_written_is_left_or_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "part.parquet")
    ledger.record(row("a"))
    (tmp_path / ".part.parquet.part").write_bytes(b"cut off")
    assert len(Ledger(ledger.path)) == 1
    assert read_rows(tmp_path / "missing.parquet") == []
