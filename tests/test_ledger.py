import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from automl.ledger import DamagedError, Ledger, read_rows, write_rows
from automl.sam.ledger import SCHEMA, SUBNETS
from search_spaces import InputError


def row(subnet: str, **values: Any) -> dict[str, Any]:
    identity = {"design": "d", "weights": "d@3", "split": "val", "pictures": 8}
    return {"subnet": subnet, "layers": [0, 2], "mlp_widths": [8, 8], **identity, **values}


def test_what_was_recorded_is_there_for_the_next_reader(tmp_path: Path) -> None:
    path = tmp_path / "parts" / "d@3.parquet"
    ledger = Ledger(path, SUBNETS)
    ledger.record(row("a", miou_val=0.5))
    ledger.record(row("b", miou_val=0.25))
    again = Ledger(path, SUBNETS)
    assert [r["subnet"] for r in again.rows()] == ["a", "b"]
    found = again.find("b", "val")
    assert found is not None
    assert found["miou_val"] == 0.25
    assert pq.read_schema(path).names == SCHEMA.names


def test_an_evaluation_is_recorded_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "part.parquet", SUBNETS)
    ledger.record(row("a", miou_val=0.5))
    with pytest.raises(ValueError, match="evaluated twice"):
        ledger.record(row("a", miou_val=0.6))
    ledger.record(row("a", split="test"))
    ledger.record(row("a", pictures=16))
    ledger.record(row("a", weights="d@9"))
    assert len(Ledger(ledger.path, SUBNETS)) == 4


def test_nothing_half_written_is_left_or_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "part.parquet", SUBNETS)
    ledger.record(row("a"))
    (tmp_path / ".part.parquet.part").write_bytes(b"cut off")
    assert len(Ledger(ledger.path, SUBNETS)) == 1
    assert read_rows(tmp_path / "missing.parquet") == []


def spoil(path: Path, where: float = 0.5) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)


def values_of(content: bytes, path: Path) -> list[dict[str, object]]:
    path.write_bytes(content)
    return read_rows(path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [spoil, truncate])
def test_where_a_part_is_damaged_the_one_before_it_is_taken_and_said(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    ledger = Ledger(tmp_path / "part.parquet", SUBNETS)
    for subnet in "abc":
        ledger.record(row(subnet, miou_val=0.5, object_ious=[0.5] * 4000))
    damage(ledger.path)
    said: list[str] = []
    again = Ledger(ledger.path, SUBNETS, said.append)
    assert [r["subnet"] for r in again.rows()] == ["a", "b"]
    (line,) = said
    assert "part.parquet is damaged" in line
    assert "goes on from the 2 rows before it" in line
    again.record(row("c"))
    assert [r["subnet"] for r in Ledger(ledger.path, SUBNETS).rows()] == ["a", "b", "c"]


def test_where_nothing_good_is_left_it_is_an_error(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "part.parquet", SUBNETS)
    for subnet in "ab":
        ledger.record(row(subnet))
    for path in tmp_path.iterdir():
        truncate(path)
    with pytest.raises(InputError, match=r"part\.before is damaged"):
        Ledger(ledger.path, SUBNETS)


def test_a_bit_anywhere_in_the_data_is_found(tmp_path: Path) -> None:
    path, rng = tmp_path / "part.parquet", random.Random(0)
    values = [row(str(i), object_ious=[rng.random() for _ in range(500)]) for i in range(20)]
    write_rows(values, path, SCHEMA)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in [rng.uniform(0.01, 0.8) for _ in range(40)]:
        path.write_bytes(whole)
        spoil(path, place)
        with pytest.raises(DamagedError):
            read_rows(path)
    # In the footer, which Parquet has no checksum for, a bit may also be of no consequence.
    found, there = 0, values_of(whole, path)
    for place in range(footer, len(whole), 7):
        path.write_bytes(whole)
        spoil(path, (place + 0.5) / len(whole))
        try:
            assert read_rows(path) == there
        except DamagedError:
            found += 1
    assert found > 0.9 * len(range(footer, len(whole), 7))


def test_a_part_can_be_read_while_it_is_written_anew(tmp_path: Path) -> None:
    path, ended = tmp_path / "part.parquet", threading.Event()
    write_rows([row("a")], path, SCHEMA)

    def write() -> None:
        for count in itertools.cycle(range(1, 60)):
            names = (str(i) * (1 + count % 7) for i in range(count))
            write_rows([row(name, object_ious=[0.5] * 400) for name in names], path, SCHEMA)
            if ended.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(300):
                names = [found["subnet"] for found in read_rows(path)]
                assert 0 < len(names) == len(set(names)) < 60
        finally:
            ended.set()
        writing.result()
