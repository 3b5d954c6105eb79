"""What a search takes beside a bare loop over the same evaluations.

    python benchmarks/search_overhead.py STUDY [--evaluations 200]

STUDY is the output directory of a study that has its final supernet, such as the quick start's. Its
subnets are searched once more, as a study does it, in a directory that is thrown away: Ray Tune,
the searcher, the ledger on disk after each evaluation. Then this process evaluates the same subnets
in the same order, with an evaluator of its own and the same rivals. The scores must be equal. The
exit status is 1 where they differ or the goal is not met.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from search_setup import Searchable, searchable

from automl.cluster import connect
from automl.ledger import Row
from automl.progress import track
from automl.sam.measure import load_weights
from automl.sam.subnet_trial import rivals_of
from search_spaces import Subnet
from trainables.sam.evaluator import Evaluator
from trainables.subnet import score_in_rungs
from trainables.supernet import WEIGHTS

GOAL = 1.08


def main(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        supernet = searchable(options.study, Path(folder))
        connect(supernet.workspace.config.resources)  # a study has its Ray already
        start = time.perf_counter()
        searched = supernet.search(options.evaluations, lambda state: None)
        search_s = time.perf_counter() - start
        start = time.perf_counter()
        looped = loop(supernet, searched)
        loop_s = time.perf_counter() - start
    same = [row["miou_val"] for row in searched] == [row["miou_val"] for row in looped]
    ratio = search_s / loop_s
    print(f"{len(searched)} evaluations: search {search_s:.1f} s, bare loop {loop_s:.1f} s")
    print(f"{ratio:.3f} times (goal ≤ {GOAL:.2f}); scores {'equal' if same else 'DIFFER'}")
    return 0 if same and ratio <= GOAL else 1


def loop(supernet: Searchable, searched: list[Row]) -> list[Row]:
    """The same subnets in the same order."""
    workspace = supernet.workspace
    config = workspace.config
    evaluator = Evaluator(
        load_weights(workspace, supernet.checkpoint / WEIGHTS),
        workspace.examples("val"),
        config.evaluation.batch_size,
        config.resources.evaluator_cache_mb << 20,
    )
    found: list[Row] = []
    for row in track(searched, len(searched), "bare loop", Console()):
        rivals = rivals_of(found) if config.search.stop_early else []
        found.append(score_in_rungs(evaluator, Subnet.from_dict(row), "val", rivals))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--evaluations", type=int, default=200)
    sys.exit(main(parser.parse_args()))
