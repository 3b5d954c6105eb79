"""A study that runs, faults at random moments, and what they cost."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faults import processes
from faults.outcome import Outcome
from faults.study import (
    BrokenError,
    SmallStudy,
    check,
    check_log,
    check_same,
    check_tracking,
)

STEPS, EVALUATIONS = 12, 10
"""Of the small study."""
PHASES = {"train": "in a training", "search": "in a search"}
Act = Callable[[SmallStudy], None]


@dataclass(frozen=True)
class Fault:
    """Something to do to a study.

    Args:
        name: for the table.
        phase: of `PHASES`.
        act: does it; the study runs when it returns.
        log: what `study.log` then says, a regular expression; empty: nothing, as nothing happens.
        anew: whether it takes a new process to go on.
    """

    name: str
    phase: str
    act: Act
    log: str
    anew: bool = True


@dataclass(frozen=True)
class Bench:
    """What all plans share.

    Args:
        folder: for scratch.
        prefix: a study before its training.
        undisturbed: the same after its search.
        finished: the same at its end.
        rng: for the moments.
    """

    folder: Path
    prefix: SmallStudy
    undisturbed: SmallStudy
    finished: SmallStudy
    rng: random.Random

    def begin(self, name: str, **options: Any) -> SmallStudy:
        return SmallStudy(self.folder / name, **options).begin_from(self.prefix)

    def moments(self, phase: str, count: int) -> list[int]:
        """Steps or rows, at random, with room behind the last."""
        last = {"train": STEPS, "search": EVALUATIONS}[phase] - 2
        return sorted(self.rng.sample(range(1, last), count))


def progress(study: SmallStudy, phase: str) -> int:
    """Steps of its training, or rows of its search."""
    return study.steps() if phase == "train" else len(study.ledger())


def is_at(study: SmallStudy, phase: str, at: int) -> bool:
    return progress(study, phase) >= at


def inject(study: SmallStudy, fault: Fault) -> float:
    """Act; the seconds until the next forward pass, of a new process where it takes one."""
    start, before = time.monotonic(), study.passes()
    fault.act(study)

    def goes_on() -> bool:
        now = study.passes()
        return bool(set(now) - set(before)) if fault.anew else now.total() > before.total()

    study.wait_for(goes_on, f"work after {fault.name}")
    return time.monotonic() - start


def disturbed(bench: Bench, study: SmallStudy, faults: list[Fault]) -> list[Outcome]:
    """Run a study with faults, one after the other, and check what must hold.

    Args:
        bench: what to compare with.
        study: it begins here.
        faults: each once for each time that it is named.
    """
    seconds: dict[str, list[float]] = {fault.name: [] for fault in faults}
    times: Counter[str] = Counter()
    broken = ""
    try:
        study.start()
        for phase in PHASES:
            here = [fault for fault in faults if fault.phase == phase]
            reached = 0
            for moment, fault in zip(bench.moments(phase, len(here)), here, strict=True):
                # What is tried again is not hit again: it would be taken for what kills.
                at = max(moment, reached + 1)
                study.wait_for(partial(is_at, study, phase, at), f"{phase} {at}")
                time.sleep(bench.rng.uniform(0, 0.5))
                times[fault.name] += 1
                seconds[fault.name].append(inject(study, fault))
                reached = progress(study, phase)
        status = study.end()
        check(status == 0, f"exit status {status}: {study.errors[-900:]}")
        check_same(study, bench.undisturbed)
        check_tracking(study)
        for log, count in Counter(fault.log for fault in faults if fault.log).items():
            check_log(study, log, count)
    except BrokenError as error:
        broken = " ".join(str(error).split())
        processes.kill(processes.of_session(study.session))
    return [
        Outcome(name, count, *_lost(bench, study, faults, name), seconds[name], broken)
        for name, count in times.items()
    ]


def _lost(bench: Bench, study: SmallStudy, faults: list[Fault], name: str) -> tuple[float, float]:
    """Training steps and evaluations beyond the undisturbed study's that a fault's phase cost."""
    phases = {fault.phase for fault in faults}
    (mine,) = {fault.phase for fault in faults if fault.name == name}
    share = sum(fault.name == name for fault in faults) / sum(f.phase == mine for f in faults)
    whole = bench.undisturbed
    steps = study.steps() - whole.steps()
    each = whole.passes_of("evaluate") / len(whole.ledger())
    evaluations = (study.passes_of("evaluate") - whole.passes_of("evaluate")) / each
    lost = {"train": max(0.0, steps), "search": max(0.0, evaluations)}
    counted = phases if len(phases) == 1 else {mine}
    found = {phase: lost[phase] * share * (phase in counted) for phase in PHASES}
    return found["train"], found["search"]
