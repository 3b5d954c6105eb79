"""How a search scales with its evaluators, which sleep as long as an evaluation would take.

    python benchmarks/scaling.py [--workers 1 2 4 8] [--seconds 1.5] [--each 20]

It is a study's own stage that tries one design: the outer search and its trial, Ray Tune,
HyperOpt, placement, the ledger on disk and MLflow told after each evaluation, an actor a worker
that reads the ledger for rivals. Replaced are the training, which is left out, and the evaluation:
the worker sleeps, `--seconds` for the parent and less for a smaller subnet in proportion to its
MACs, and makes up a score. So eight workers need no eight processors.

The share of linear is the share of the time that workers evaluate, from when the last of them
begins its first evaluation to when the first of them is left without one. A study has the time
before that (processes start) and after it (the last evaluations) once in each search, however many
it makes. The exit status is 1 where the goal is not met.
"""

import argparse
import io
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from automl.cluster import WORKER_ENVIRONMENT, connect
from automl.halving import Budget
from automl.ledger import Row, read_rows
from automl.progress import StudyProgress
from automl.sam import design_trial, designs, search, stages
from automl.sam.config import StudyConfig, check_config
from automl.sam.subnet_trial import rivals_of
from automl.sam.tracking import Tracking
from automl.sam.workspace import Workspace
from search_spaces import Subnet
from trainables.sam.layer_worth import LayerWorth

GOAL = 0.90
OBJECTS = 400
"""In the pictures of val: 64 of the nuclei have as many."""
Slept = tuple[str, float, float]
"""By whom, from when, to when; seconds of a clock that all processes share."""


def main(options: argparse.Namespace) -> int:
    os.environ.update(WORKER_ENVIRONMENT)  # `connect` sets it for a Ray that it starts
    ray.init(address="local", num_cpus=max(options.workers), log_to_driver=False)
    print("workers  evaluations     s  a second  of linear  CPU ms each: trial, study")
    reached = True
    for workers in options.workers:
        with tempfile.TemporaryDirectory() as folder:
            slept, trial, study = searched(Path(folder), workers, options)
        window, share = busy(slept, workers)
        reached &= share >= GOAL
        count = len(slept)
        cpu = f"{1000 * trial / count:.0f}, {1000 * study / count:.0f}"
        line = f"{workers:7}  {count:11}  {window:4.0f}  {count / window:8.2f}  {share:9.1%}"
        print(f"{line}  {cpu:>26}", flush=True)
    return 0 if reached else 1


def searched(
    folder: Path, workers: int, options: argparse.Namespace
) -> tuple[list[Slept], float, float]:
    """One search; who slept when, and the CPU seconds of the trial's process and of this one."""
    workspace = Workspace(simulated(workers, workers * options.each), folder / "out")
    workspace.root.mkdir()
    log = workspace.work / "slept"
    log.mkdir(parents=True)
    connect(workspace.config.resources)
    space = workspace.config.designs.space
    worth = [LayerWorth(i, 0.01 * (1 + i % 5), 0.1) for i in range(workspace.encoder.depth)]
    workspace.write_importance(worth, {}, space.design(space.first_points()[0]))
    Tracking(workspace.config, workspace.root)  # makes the database, once in a study
    designs.score_design = partial(simulated_trial, seconds=options.seconds)
    console = Console(file=io.StringIO())
    with (
        StudyProgress(stages.stage_costs(workspace), console) as progress,
        progress.stage("designs") as share,
    ):
        cpu = time.process_time()
        stages.try_designs(workspace, share)
        cpu = time.process_time() - cpu
    found = [
        (path.name, *map(float, line.split())) for path in log.iterdir() for line in path.open()
    ]
    return found, float((workspace.work / "cpu").read_text()), cpu  # type: ignore[return-value]


def simulated(workers: int, evaluations: int) -> StudyConfig:
    values = {
        "designs": {"trials": 1},
        "final": {"evaluations": evaluations},
        "resources": {"evaluators": workers, "evaluator_cpus": 1, "train_cpus": 1},
    }
    return check_config(values, "here")


def simulated_trial(
    flat: dict[str, Any], workspace: Workspace, budget: Budget, seconds: float
) -> None:
    """Stands for `score_design`: the same without a training, and with evaluators that sleep."""
    design_trial.train_design = lambda *arguments: workspace.work / "made-up"
    Sleeping.seconds = seconds
    search.SubnetTrial = Sleeping  # type: ignore[misc]
    cpu = time.process_time()
    design_trial.score_design(flat, workspace, budget)
    (workspace.work / "cpu").write_text(str(time.process_time() - cpu))


class Sleeping(tune.Trainable):
    """Stands for `SubnetTrial`."""

    seconds = 0.0

    def setup(
        self, config: dict[str, Any], workspace: Workspace, weights: Path, part: Path
    ) -> None:
        self._workspace, self._part = workspace, part

    def step(self) -> dict[str, Any]:
        start = time.monotonic()
        rivals_of(read_rows(self._part))
        row = made_up(self._workspace, Subnet.from_dict(self.config))
        share = row["encoder_macs"] / self._workspace.parent_costs["encoder_macs"]
        time.sleep(self.seconds * share)
        with (self._workspace.work / "slept" / str(os.getpid())).open("a") as log:
            print(start, time.monotonic(), file=log)
        return {"row": row, "quality": row["expected"], "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True


def made_up(workspace: Workspace, subnet: Subnet) -> Row:
    """A ledger row of the usual size; the score grows with the MACs, more or less."""
    costs = workspace.cost_table.costs(subnet).to_dict()
    share = costs["encoder_macs"] / workspace.parent_costs["encoder_macs"]
    rng = random.Random(subnet.key)
    quality = 0.7 + 0.1 * share + 0.05 * rng.random()
    return {
        "subnet": subnet.key,
        **subnet.to_dict(),
        **costs,
        "split": "val",
        "pictures": 64,
        "stopped": False,
        "latency_ms": 20.0,
        "miou_val": quality,
        "miou_oracle": quality,
        "objects": OBJECTS,
        "expected": quality,
        "rung_mious": [quality] * 3,
        "object_ious": [rng.uniform(2 * quality - 1, 1) for _ in range(OBJECTS)],
        "seconds": 1.0,
    }


def busy(slept: list[Slept], workers: int) -> tuple[float, float]:
    """Seconds in which all workers could evaluate, and the share of them in which they did."""
    of_each: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for worker, start, end in slept:
        of_each[worker].append((start, end))
    assert len(of_each) == workers, f"{len(of_each)} of {workers} workers evaluated"
    first = max(min(start for start, _ in spans) for spans in of_each.values())
    last = min(max(end for _, end in spans) for spans in of_each.values())
    inside = sum(max(0.0, min(end, last) - max(start, first)) for _, start, end in slept)
    return last - first, inside / (workers * (last - first))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=1.5, help="for the parent")
    parser.add_argument("--each", type=int, default=20, help="evaluations for each worker")
    sys.exit(main(parser.parse_args()))
