"""Successive halving (arXiv 1502.07943): which designs go on, and with how much more.

Many designs get little, the best of them more, and one the final budget. The first rung has all
designs with the least budget; from rung to rung one of `reduction` goes on, and what it is given
grows geometrically.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import InputError


@dataclass(frozen=True)
class Budget:
    """What a design is given: training steps from its start, and subnets evaluated."""

    steps: int
    evaluations: int


@dataclass(frozen=True)
class Rung:
    """How many designs get a budget."""

    designs: int
    budget: Budget


def halving_rungs(trials: int, reduction: int, first: Budget, final: Budget) -> tuple[Rung, ...]:
    """The rungs, from all designs to the final budget.

    There are as many as it takes until one design is left; a single design has nothing to be
    compared with, and gets the final budget at once. A rung with the budget of the one before it
    would only repeat it, and is left out: so the last may have several designs, of which the best
    one has the final budget already.

    Args:
        trials: designs on the first rung.
        reduction: of so many designs one goes on, rounded up; at least 2.
        first: of the first rung, unless that is the only one.
        final: of the last rung.
    """
    counts = [trials]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // reduction))
    last = len(counts) - 1
    rungs: list[Rung] = []
    for number, designs in enumerate(counts):
        share = number / last if last else 1.0
        budget = Budget(
            _between(first.steps, final.steps, share),
            _between(first.evaluations, final.evaluations, share),
        )
        if not rungs or budget != rungs[-1].budget:
            rungs.append(Rung(designs, budget))
    return tuple(rungs)


def _between(first: int, final: int, share: float) -> int:
    """A geometric step of `share` from `first`, 0, to `final`, 1."""
    grown: float = first * (final / first) ** share
    return round(grown)


def best_first(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By hypervolume, and those of later rungs, which can be told apart best, before others."""
    return sorted(records, key=lambda record: (-record["steps"], -record["hypervolume"]))


def best_records(records: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Those of a rung that go on, best first; of equal ones the first that was tried.

    Args:
        records: of a rung; a design that was tried twice counts once.
        count: how many go on at most; a design that failed never does.

    Raises:
        InputError: all failed.
    """
    distinct = list({record["design"]: record for record in records}.values())
    sound = [record for record in distinct if not record.get("failure")]
    if not sound:
        raise InputError(f"no design could be trained and searched: {distinct[0]['failure']}")
    return sorted(sound, key=lambda record: -record["hypervolume"])[:count]
