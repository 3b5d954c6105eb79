"""How well a latency table predicts whole subnets."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from scipy import stats

from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace
from trainables.clock import Clock, clock_of
from trainables.latency import BUDGET_S, Track, in_time, whole_ms
from trainables.latency_table import LatencyTable
from trainables.sam.encoder import ElasticEncoder

ROUNDS = 15
"""How often a subnet is measured."""


@dataclass(frozen=True)
class Check:
    """Subnets' predicted latency beside the measured one.

    Args:
        predicted: milliseconds of each subnet.
        measured: the same, medians.
        noise: by what share two halves of the measurements differ, the mean over subnets; no error
            below that means anything. None: each was measured once.
    """

    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    noise: float | None

    @property
    def errors(self) -> list[float]:
        """How far each prediction is above what was measured, as a share of that."""
        pairs = zip(self.predicted, self.measured, strict=True)
        return [predicted / measured - 1 for predicted, measured in pairs]

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's; None where all are equal."""
        if min(len(set(self.predicted)), len(set(self.measured))) < 2:
            return None
        return float(stats.spearmanr(self.predicted, self.measured).statistic)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form. Where `bias` is as large as the error, the machine's speed has changed."""
        sizes = [abs(error) for error in self.errors]
        return {
            "subnets": len(sizes),
            "mean_error": statistics.mean(sizes),
            "worst_error": max(sizes),
            "bias": statistics.mean(self.errors),
            "rank_correlation": self.rank_correlation,
            **asdict(self),
        }


def check_table(
    encoder: ElasticEncoder,
    table: LatencyTable,
    subnets: Sequence[Subnet],
    *,
    rounds: int = ROUNDS,
    budget_s: float = BUDGET_S,
    clock: Clock | None = None,
    track: Track = iter,
) -> Check:
    """Measure whole subnets in turn, and compare.

    Args:
        encoder: the table's, on the same device with as many threads.
        table: predicts.
        subnets: that are measured.
        rounds: in each of them every subnet runs once.
        budget_s: seconds after which no further round is begun.
        clock: None: the device's own.
        track: shows how far it is.
    """
    clock = clock or clock_of(next(encoder.parameters()).device)
    taken: list[list[float]] = [[] for _ in subnets]
    whole_ms(encoder, encoder.largest, clock)
    for index in in_time(track([*range(len(subnets))] * rounds), len(subnets), budget_s):
        taken[index].append(whole_ms(encoder, subnets[index], clock))
    noise = None
    if len(taken[0]) > 1:
        halves = [[statistics.median(t[half::2]) for half in range(2)] for t in taken]
        noise = statistics.mean(abs(a - b) / max(a, b) for a, b in halves)
    predicted = tuple(table.predict(subnet) for subnet in subnets)
    return Check(predicted, tuple(statistics.median(times) for times in taken), noise)


def random_subnets(space: SubnetSpace, count: int, seed: int) -> list[Subnet]:
    """Distinct subnets of a space, drawn as in training; fewer where it hardly has as many."""
    rng = random.Random(seed)
    drawn = dict.fromkeys(space.sample(rng) for _ in range(10 * count))
    return list(islice(drawn, count))
