"""Files that appear together or not at all: full disks, kills, folders that can't be written."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from search_spaces.errors import InputError
from trainables.data import staging
from trainables.data.prepare import FILES, prepare
from trainables.data.splits import SPLITS, SplitRule
from trainables.data.staging import Staging
from trainables.data.storage import Location

PROJECT = Path(__file__).parent.parent
NAMES = ("first", "last")
PREPARE = """
import os, resource, signal, sys
from trainables.data.prepare import prepare
from trainables.data.splits import SplitRule
from search_spaces.errors import InputError
source, target, mode = sys.argv[1:]
if mode == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
def progress(done, total):
    if mode == "killed" and done == 12:
        os.kill(os.getpid(), signal.SIGKILL)
try:
    prepare(source, target, rule=SplitRule(val=0.25, test=0.25), progress=progress)
except InputError as error:
    sys.exit(str(error))
"""


def run(dataset, target, mode):
    command = [sys.executable, "-c", PREPARE, str(dataset), str(target), mode]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)


def test_files_appear_together_with_the_last_one_last(tmp_path):
    folder = Location.at(tmp_path / "new" / "folder")
    with Staging(folder, NAMES) as staged:
        staged.write("last", b"2")
        staged.write("first", b"1")
        assert not (tmp_path / "new" / "folder" / "first").exists()
    found = {p.name: p.read_bytes() for p in (tmp_path / "new" / "folder").iterdir()}
    assert found == {"first": b"1", "last": b"2"}


def test_after_an_exception_nothing_is_left_but_what_was_there(tmp_path):
    (tmp_path / "last").write_bytes(b"old")
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(ZeroDivisionError), Staging(Location.at(folder), NAMES) as staged:
            staged.write("last", b"2")
            raise ZeroDivisionError
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"last": b"old"}


def test_old_and_new_files_never_look_like_one_data_set(tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")

    def torn(part, final):
        if final.name == "last":
            raise KeyboardInterrupt
        part.files.move(part.path, final.path)

    monkeypatch.setattr(staging, "_rename", torn)
    with pytest.raises(KeyboardInterrupt), Staging(Location.at(tmp_path), NAMES) as staged:
        for name in NAMES:
            staged.write(name, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"first": b"new"}


def test_what_a_store_cannot_copy_within_itself_is_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "LARGEST_COPY", 3)
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())  # not seen as local
    with Staging(Location(store, ""), NAMES) as staged:
        staged.write("first", b"small")
        staged.write("last", b"2")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"first": b"small", "last": b"2"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"file/x can't be written: .*nothing was kept"),
        Staging(Location.at(tmp_path / "file" / "x"), NAMES) as staged,
    ):
        staged.write("last", b"")


def test_a_full_disk_is_one_line_and_leaves_nothing(dataset, tmp_path):
    done = run(dataset, tmp_path / "out", "full")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"{tmp_path / 'out'}: no space left (")
    assert "nothing was kept" in line
    assert list(tmp_path.iterdir()) == []


def test_a_killed_preparation_leaves_nothing_that_looks_whole_and_can_be_done_again(
    dataset, splits, tmp_path
):
    assert run(dataset, tmp_path, "killed").returncode == -signal.SIGKILL
    assert {path.suffix for path in tmp_path.iterdir()} == {".part"}
    with pytest.raises(pa.ArrowInvalid):
        pq.ParquetFile(tmp_path / ".test.parquet.part")
    prepare(dataset, tmp_path, rule=SplitRule(val=0.25, test=0.25))
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    for split in SPLITS:
        name = f"{split}.parquet"
        assert (tmp_path / name).read_bytes() == (splits / name).read_bytes()
