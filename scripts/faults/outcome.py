"""What a fault did to a study, and the table of all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean


@dataclass(frozen=True)
class Outcome:
    """Of one run.

    Args:
        fault: its name.
        times: how often it was injected.
        steps: of the training, made again.
        evaluations: begun again; in the ledger each is once.
        seconds: from each fault to the first forward pass after it.
        broken: what did not hold; empty where all did.
    """

    fault: str
    times: int
    steps: float = 0.0
    evaluations: float = 0.0
    seconds: Sequence[float] = field(default_factory=list)
    broken: str = ""


HEAD = """\
| fault | times | training steps made again | evaluations made again | seconds to recover | held |
|---|--:|--:|--:|--:|---|
"""


def table(outcomes: Sequence[Outcome]) -> str:
    """In Markdown, a row a fault."""
    rows = ""
    for fault in dict.fromkeys(outcome.fault for outcome in outcomes):
        found = [outcome for outcome in outcomes if outcome.fault == fault]
        times = sum(outcome.times for outcome in found)
        steps = sum(outcome.steps for outcome in found) / times
        evaluations = sum(outcome.evaluations for outcome in found) / times
        seconds = [second for outcome in found for second in outcome.seconds]
        took = f"{mean(seconds):.1f} (at most {max(seconds):.1f})" if seconds else ""
        broken = [outcome.broken for outcome in found if outcome.broken]
        held = f"no: {broken[0]}" if broken else "yes"
        rows += f"| {fault} | {times} | {steps:.1f} | {evaluations:.1f} | {took} | {held} |\n"
    return HEAD + rows
