"""Bounds on a subnet's costs: ceilings and floors, absolute or as a share of the parent's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.errors import InputError

FORMS = (
    "a count such as 3000000 or a share of the parent such as 50%, alone or behind <= for a "
    "ceiling, behind >= for a floor, or two of them such as 30%..50%"
)
"""How a bound is written."""


@dataclass(frozen=True)
class Constraint:
    """`floor <= cost <= ceiling`, in counts; no floor is 0, no ceiling infinite."""

    cost: str
    ceiling: float = math.inf
    floor: float = 0.0

    def over(self, costs: Mapping[str, float]) -> float:
        """By what share of the ceiling the cost is over it; 0 where it fits."""
        return max(0.0, costs[self.cost] / self.ceiling - 1.0)

    def short(self, costs: Mapping[str, float]) -> float:
        """What share of the floor the cost lacks; 0 where it fits."""
        return max(0.0, 1.0 - costs[self.cost] / self.floor) if self.floor else 0.0

    def excess(self, costs: Mapping[str, float]) -> float:
        """By how much the cost is outside its bounds; 0 where it keeps them."""
        return self.over(costs) + self.short(costs)


def parse_constraints(
    wanted: Mapping[str, float | str], parent: Mapping[str, float]
) -> list[Constraint]:
    """Turn `{"encoder_params": "30%..50%"}` into bounds in counts.

    Args:
        wanted: cost name to a bound, as `FORMS` says.
        parent: the parent's costs: those that can be bounded. All are known before a subnet is
            evaluated, and hardly any falls where a subnet grows.

    Raises:
        InputError: an unknown cost, a value that is no bound, or a floor above its ceiling.
    """
    constraints = []
    for cost, value in wanted.items():
        if cost not in parent:
            raise InputError(f"constraints.{cost}: unknown; choose from {', '.join(parent)}")
        floor, ceiling = (
            default if text is None else _count(text, parent[cost])
            for text, default in zip(_bounds(str(value)), (0.0, math.inf), strict=True)
        )
        if floor is None or ceiling is None:
            raise InputError(f"constraints.{cost}: {value!r} is no bound; write {FORMS}")
        if floor > ceiling:
            raise InputError(
                f"constraints.{cost}: {value!r} has its floor {floor:g} above its ceiling "
                f"{ceiling:g}; write the smaller one first"
            )
        constraints.append(Constraint(cost, ceiling, floor))
    return constraints


def _bounds(text: str) -> tuple[str | None, str | None]:
    """The texts of floor and ceiling; None where there is none."""
    text = text.strip()
    if ".." in text:
        floor, _, ceiling = text.partition("..")
        return floor, ceiling
    if text.startswith(">="):
        return text.removeprefix(">="), None
    return None, text.removeprefix("<=")


def _count(text: str, parent: float) -> float | None:
    """What a text stands for, in counts; None where it is no positive count and no share."""
    text = text.strip()
    try:
        count = float(text[:-1]) / 100 * parent if text.endswith("%") else float(text)
    except ValueError:
        return None
    return count if 0 < count < math.inf else None
