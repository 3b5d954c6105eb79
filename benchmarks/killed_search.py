"""A search that is killed at random moments and resumed, beside one that is not.

    python benchmarks/killed_search.py STUDY [--evaluations 60] [--kills 10] [--seed 0]

STUDY is the output directory of a study that has its final supernet. It is searched once in one go,
and once more in another directory, where the searching process gets SIGKILL so many times, each
time at a random moment after a random number of further rows, and is started again. Both ledgers
must have the same rows in the same order, none twice. The exit status is 1 where they have not.
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

from automl.ledger import Row, read_rows
from automl.sam.ledger import row_identity

ALIKE = ("latency_ms", "seconds")  # measured times differ from run to run


def main(options: argparse.Namespace) -> int:
    if options.root:
        searchable(options.study, options.root).search(options.evaluations, lambda state: None)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = (Path(folder) / name for name in ("whole", "killed"))
        for root in (whole, killed):
            root.mkdir()
        search(options, whole).wait()
        rng, kills = random.Random(options.seed), 0
        most = 2 * options.evaluations // (options.kills + 1)
        while kills < options.kills:
            process = search(options, killed)
            wanted = len(rows_in(options, killed)) + rng.randint(0, most)
            while process.poll() is None and len(rows_in(options, killed)) < wanted:
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 2))
            if process.poll() is not None:
                break  # it was done before
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            done = len(rows_in(options, killed))
            print(f"killed with {done} of {options.evaluations} rows", flush=True)
        status = search(options, killed).wait()
        expected, found = rows_in(options, whole), rows_in(options, killed)
    same = list(map(lasting, expected)) == list(map(lasting, found))
    distinct = len(set(map(row_identity, found)))
    print(f"killed {kills} times: {len(found)} rows, {distinct} distinct, beside")
    print(f"{len(expected)} uninterrupted; {'equal in order and value' if same else 'DIFFERENT'}")
    complete = kills == options.kills and not status
    return 0 if same and distinct == len(found) and complete else 1


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
