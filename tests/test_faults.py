"""The parts of `scripts/inject_faults.py`, which breaks whole studies, and what it damages."""

import random
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from faults import files, processes
from faults.outcome import Outcome, table
from faults.study import BrokenError, check

from automl.sam.config import PACKAGED_DATA
from search_spaces import InputError
from trainables.data.pictures import Pictures
from trainables.data.prepare import copy_prepared
from trainables.data.storage import Location

NUCLEI = PACKAGED_DATA["nuclei"]


def test_the_processes_of_a_session_are_found_and_ended() -> None:
    command = ["sh", "-c", "sleep 77 & exec sleep 88"]
    with subprocess.Popen(command, start_new_session=True) as leader:
        wanted, deadline = {"sleep 77", "sleep 88"}, time.monotonic() + 20
        titles: set[str] = set()
        while titles != wanted:  # until the shell has become the second of them
            assert time.monotonic() < deadline, titles
            found = processes.named(leader.pid, "sleep")
            titles = {process.title for process in found}
        assert processes.wait_until_gone(leader.pid, 0.1) == processes.of_session(leader.pid)
        processes.kill(found)
        leader.wait()
        assert processes.wait_until_gone(leader.pid, 10) == []


def test_the_table_has_a_row_a_fault_with_means_and_what_did_not_hold() -> None:
    outcomes = [
        Outcome("a kill", 2, steps=3, seconds=[1.0, 2.0]),
        Outcome("a kill", 1, steps=0, seconds=[6.0]),
        Outcome("a flood", 1, evaluations=2, broken="a row is lost"),
    ]
    *_, kill, flood = table(outcomes).splitlines()
    assert kill == "| a kill | 3 | 1.0 | 0.0 | 3.0 (at most 6.0) | yes |"
    assert flood == "| a flood | 1 | 0.0 | 2.0 |  | no: a row is lost |"


def test_what_does_not_hold_once_does_not_hold() -> None:
    turns = iter([True, False, True])

    def act() -> float:
        check(next(turns), "something is lost")
        return 1.0

    found = files.each_time("a fault", 3, act)
    assert (found.times, found.evaluations, found.broken) == (3, 2.0, "something is lost")
    with pytest.raises(BrokenError, match="lost"):
        check(False, "lost")


@pytest.mark.parametrize("kind", files.DAMAGE)
def test_damage_to_a_split_that_came_without_checksums_is_found(kind: str, tmp_path: Path) -> None:
    copy_prepared(Location.at(NUCLEI), Location.at(tmp_path / "data"))
    whole, rng = tmp_path / "data" / "val.parquet", random.Random(0)
    there, shipped = Pictures(whole), Pictures(NUCLEI / "val.parquet")
    for i in (0, len(there) - 1):
        assert there[i].objects == shipped[i].objects
        assert np.array_equal(there[i].pixels, shipped[i].pixels)
    for _ in range(20):
        path = shutil.copy(whole, tmp_path / "damaged.parquet")
        files.DAMAGE[kind](path, rng)
        with pytest.raises(InputError, match=r"damaged\.parquet"):
            for i in range(len(pictures := Pictures(path))):
                _ = pictures[i]
