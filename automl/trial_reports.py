"""What the trial of a design reports while it trains and searches, and what is made of that."""

import fcntl
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from automl.files import write_json
from automl.halving import Budget
from automl.trials import SearchFailedError

REPORT_S = 1.0
"""Seconds between the reports of a search: while `tune.report` waits for the study, evaluators that
are free wait for a candidate."""


@dataclass(frozen=True)
class SearchState:
    """How far a search is.

    Args:
        evaluations: candidates that were evaluated, whole or not.
        front_size: non-dominated ones.
        hypervolume: of these.
    """

    evaluations: int
    front_size: int
    hypervolume: float


class SearchReports:
    """Tells the study how far a search is, at once and then every so often.

    Args:
        weights: the supernet, DESIGN@STEPS.
        total: evaluations that the search is to make.
    """

    def __init__(self, weights: str, total: int) -> None:
        self._constants = {"phase": "search", "weights": weights, "total": total}
        self._untold: list[SearchState] = []
        self._told = -math.inf

    def add(self, state: SearchState) -> None:
        """Take how far the search is after an evaluation."""
        self._untold.append(state)
        if time.monotonic() >= self._told + REPORT_S:
            self.tell()

    def tell(self) -> None:
        """Tell what was not told yet."""
        if not self._untold:
            return
        curve = [
            (s.evaluations, {"front_size": s.front_size, "hypervolume": s.hypervolume})
            for s in self._untold
        ]
        last, reached = curve[-1]
        tune.report({**self._constants, "step": last, **reached, "curve": curve})
        self._untold = []
        self._told = time.monotonic()


def record_path(work: Path, design: str, budget: Budget) -> Path:
    """Where the finished trial of a design leaves its record, in a study's `work/`."""
    return work / "designs" / f"{design}@{budget.steps}x{budget.evaluations}.json"


def report_record(
    path: Path, about: dict[str, Any], find: Callable[[], dict[str, Any]], remedy: str
) -> None:
    """Report a design's record, the last report of its trial; one that is there is not made again.

    Several trials may be of one design, side by side: the others wait for the first.

    Args:
        path: as `record_path` gives it.
        about: what the record says of the design, whatever is found.
        find: trains and searches the design.
        remedy: what helps where a loss is not finite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            start = time.perf_counter()
            found = _found(find, remedy)
            write_json({**about, **found, "seconds": time.perf_counter() - start}, path)
    record = json.loads(path.read_text())
    tune.report({"phase": "done", "hypervolume": record["hypervolume"], "record": record})


def _found(find: Callable[[], dict[str, Any]], remedy: str) -> dict[str, Any]:
    """What is found; of a design that can't be trained or searched, the reason."""
    try:
        return find()
    except FloatingPointError as error:
        failure = f"{error}; {remedy}"
    except SearchFailedError as error:
        failure = str(error)
    return {"evaluations": 0, "hypervolume": 0.0, "front_size": 0, "failure": failure}


def trial_share(report: dict[str, Any]) -> float:
    """How far a design's trial is; the training counts for two thirds."""
    if report["phase"] == "done":
        return 1.0
    before, share = (0.0, 0.65) if report["phase"] == "train" else (0.65, 0.35)
    return before + share * float(report["step"] / report["total"])


def trial_note(report: dict[str, Any], what: str) -> str:
    """How far it is, for people.

    Args:
        report: of the trial.
        what: its search evaluates, such as "subnet".
    """
    if report["phase"] == "train":
        return f"training step {report['step']}/{report['total']}, loss {report['loss']:.3f}"
    hypervolume = f"hypervolume {report['hypervolume']:.4f}"
    if report["phase"] == "search":
        front = f"front of {report['front_size']}"
        return f"{what} {report['step']}/{report['total']}, {front}, {hypervolume}"
    return hypervolume
