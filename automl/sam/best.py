"""Which subnet of a front to take: the best one that keeps some bounds."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from automl.ledger import Row
from search_spaces.constraints import parse_constraints
from search_spaces.errors import InputError
from trainables.sam.objective import quality

COSTS = ("params", "encoder_params", "encoder_macs", "latency_ms")
"""What can be bounded; the latency is that which was measured where the subnet was evaluated."""


def parse_bound(expression: str) -> tuple[str, str]:
    """`encoder_params<=50%` as a cost and its bound.

    Args:
        expression: COST<=BOUND, COST>=BOUND, or COST=FLOOR..CEILING.

    Raises:
        InputError: it is none of these.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|=)\s*(.*)", expression)
    if match is None:
        raise InputError(
            f"--best: {expression!r} is no bound; write such as encoder_params<=50%, latency_ms<=40"
        )
    cost, sign, bound = match.groups()
    return cost, bound if sign == "=" else sign + bound


def best_subnet(
    front: Iterable[Row], parent: Mapping[str, Any], bounds: Iterable[tuple[str, float | str]]
) -> Row:
    """The subnet that is best on val, by `search.objective`, among those that keep all bounds.

    Args:
        front: rows of `front.parquet`.
        parent: the parent's figures, which shares are of.
        bounds: a cost and its bound, as `search_spaces.constraints` writes it; any number.

    Raises:
        InputError: a cost is unknown, a bound is none, or no subnet keeps them.
    """
    rows = list(front)
    known = {cost: parent[cost] for cost in COSTS}
    try:
        wanted = [c for cost, bound in bounds for c in parse_constraints({cost: bound}, known)]
    except InputError as error:
        reason = str(error).removeprefix("constraints.")
        raise InputError(f"--best: {reason}") from error
    kept = [row for row in rows if not any(bound.excess(row) for bound in wanted)]
    if not kept:
        costs = dict.fromkeys(bound.cost for bound in wanted)
        reach = "; ".join(_reach(cost, rows, parent) for cost in costs)
        raise InputError(f"--best: none of the front's {len(rows)} subnets keeps that: {reach}")
    return max(kept, key=lambda row: (quality(row, "val"), -row["encoder_macs"]))


def _reach(cost: str, rows: list[Row], parent: Mapping[str, Any]) -> str:
    """Between what a front's subnets lie."""
    least, most = min(row[cost] for row in rows), max(row[cost] for row in rows)
    return (
        f"{cost} is {least:,.0f} to {most:,.0f} there, {least / parent[cost]:.0%} to "
        f"{most / parent[cost]:.0%} of the parent's"
    )
