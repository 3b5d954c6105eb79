"""A disk that is full while a study writes, on a small file system in a mount namespace."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from automl.failures import disk_full, reason
from automl.files import copy_whole, write_json
from automl.ledger import Ledger, read_rows
from automl.sam.ledger import SUBNETS
from automl.study_log import LOG, log_line

UNSHARE = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
PREPARE = """
import json, sys
from pathlib import Path
from automl.cli import main

disk = Path(sys.argv[1])
command = ["prepare", "--config", "configs/quickstart.yaml", "--output", str(disk / "study")]
ballast = disk / "ballast"
ballast.write_bytes(bytes(int(sys.argv[2])))
first = main(command)
left = sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())
ballast.unlink()
second = main(command)
print(json.dumps([first, left, second]), file=sys.stderr)
"""
FULL = Path("/dev/full")
"""A device that never has room."""

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def test_one_line_says_that_the_disk_is_full_and_the_same_command_goes_on(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=8m none {tmp_path}"
    if subprocess.run([*UNSHARE, mount], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    room = 8 << 20
    command = [sys.executable, "-c", PREPARE, str(tmp_path), str(room - (1 << 20))]
    done = subprocess.run(
        [*UNSHARE, f'{mount} && exec "$@"', "sh", *command],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    *lines, last = done.stderr.strip().splitlines()
    first, left, second = json.loads(last)
    assert (first, second) == (1, 0), done.stderr
    (line,) = [line for line in lines if line.startswith("supersam: ")]
    assert line.startswith("supersam: no room was left to write on the disk (")
    assert f"{tmp_path / 'study'} has 0 MB" in line
    assert line.endswith("make room, and the same command goes on where it was")
    assert "Traceback" not in done.stderr
    assert not [name for name in left if name.endswith(".part")]
    assert "study/data/test.parquet" not in left


@needs_full
def test_a_row_that_found_no_room_leaves_those_before_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "part.parquet", SUBNETS)
    row = {"subnet": "a", "design": "d", "weights": "d@1", "split": "val", "pictures": 3}
    ledger.record(row)
    there = read_rows(ledger.path)
    (tmp_path / ".part.parquet.part").symlink_to(FULL)
    with pytest.raises(OSError) as caught:
        ledger.record({**row, "subnet": "b"})
    assert disk_full(caught.value, tmp_path) is not None
    again = Ledger(ledger.path, SUBNETS)
    assert again.rows() == there
    again.record({**row, "subnet": "b"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part.before", "part.parquet"]


@needs_full
def test_what_found_no_room_leaves_what_was(tmp_path: Path) -> None:
    path, other = tmp_path / "a.json", tmp_path / "b.json"
    for target in (path, other):
        write_json({"step": 1}, target)
    for target in (path, other):
        (tmp_path / f".{target.name}.part").symlink_to(FULL)
    with pytest.raises(OSError) as caught:
        write_json({"step": 2}, path)
    assert disk_full(caught.value, tmp_path) is not None
    with pytest.raises(OSError):
        copy_whole(path, other)
    assert [json.loads(p.read_text()) for p in (path, other)] == [{"step": 1}] * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


@needs_full
def test_a_log_without_room_goes_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOG).symlink_to(FULL)
    log_line(tmp_path, "something happened")
    assert capsys.readouterr().err.endswith(" something happened\n")


def test_a_full_disk_is_known_wherever_it_was_met(tmp_path: Path) -> None:
    inner = OSError(28, "No space left on device")
    told = RuntimeError("a trial failed: ray::run()\n  OSError: [Errno 28] No space left on device")
    linked = RuntimeError("a file could not be written")
    linked.__cause__ = inner
    handed_on = RuntimeError("a worker failed")
    handed_on.cause = linked  # type: ignore[attr-defined]
    for error in (inner, told, linked, handed_on, RuntimeError("database or disk is full")):
        full = disk_full(error, tmp_path)
        assert full is not None
        free = shutil.disk_usage(tmp_path).free >> 20
        assert abs(int(str(full).partition(f"{tmp_path} has ")[2].split()[0]) - free) < 1000
    around = RuntimeError("one")
    around.__context__ = RuntimeError("two")
    around.__context__.__context__ = around
    assert disk_full(around, tmp_path) is None


def test_an_error_that_was_cut_off_is_a_full_disk_where_no_room_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = EOFError("Ran out of input")
    assert disk_full(cut_off, tmp_path) is None
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=5000))
    assert "no room was left" in str(disk_full(cut_off, tmp_path))
    assert disk_full(ValueError("another"), tmp_path) is None


def test_a_reason_is_the_last_line() -> None:
    assert reason(RuntimeError("Traceback\n  File x\nValueError: no\n")) == "ValueError: no"
    assert reason(RuntimeError("It died. " + "Some causes " * 99)).startswith("It died. Some")
    assert len(reason(RuntimeError("It died. " + "Some causes " * 99))) <= 200
    assert reason(MemoryError()) == "MemoryError()"
