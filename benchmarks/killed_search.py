"""A search that is killed at random moments and resumed, beside one that is not.

    python benchmarks/killed_search.py STUDY [--evaluations 60] [--kills 10] [--seed 0]

STUDY is the output directory of a study that has its final supernet. It is searched once in one go,
and once more in another directory, where the searching process gets SIGKILL so many times, each
time after a random number of seconds, and is started again. Both ledgers must have the same rows
in the same order, none twice. The exit status is 1 where they have not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from search_setup import searchable

from automl.ledger import Row, read_rows, row_identity

ALIKE = ("latency_ms", "seconds")  # measured times differ from run to run


def main(options: argparse.Namespace) -> int:
    if options.root:
        searchable(options.study, options.root).search(options.evaluations, lambda state: None)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = (Path(folder) / name for name in ("whole", "killed"))
        for root in (whole, killed):
            root.mkdir()
        start = time.monotonic()
        search(options, whole).wait()
        seconds = time.monotonic() - start
        rng, left = random.Random(options.seed), options.kills
        while left:
            process = search(options, killed)
            try:
                process.wait(rng.uniform(0.1, 0.6) * seconds)
                break  # it was done before
            except subprocess.TimeoutExpired:
                left -= 1
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                done = len(rows_in(options, killed))
                print(f"killed with {done} of {options.evaluations} rows", flush=True)
        status = search(options, killed).wait()
        expected, found = rows_in(options, whole), rows_in(options, killed)
    same = list(map(lasting, expected)) == list(map(lasting, found))
    distinct = len(set(map(row_identity, found)))
    print(f"killed {options.kills - left} times: {len(found)} rows, {distinct} distinct, beside")
    print(f"{len(expected)} uninterrupted; {'equal in order and value' if same else 'DIFFERENT'}")
    return 0 if same and distinct == len(found) and not status else 1


def search(options: argparse.Namespace, root: Path) -> "subprocess.Popen[bytes]":
    """A process that searches, or goes on."""
    command = [sys.executable, __file__, str(options.study)]
    command += ["--evaluations", str(options.evaluations), "--root", str(root)]
    return subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": "local"})


def rows_in(options: argparse.Namespace, root: Path) -> list[Row]:
    return read_rows(searchable(options.study, root).ledger)


def lasting(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ALIKE}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    sys.exit(main(parser.parse_args()))
