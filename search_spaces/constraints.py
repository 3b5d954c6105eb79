"""Ceilings on a subnet's costs, absolute or as a share of the parent's."""

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.errors import InputError

CONSTRAINED = ("params", "encoder_params", "encoder_macs")
"""The costs that can be bounded: all are known before a subnet is evaluated."""


@dataclass(frozen=True)
class Constraint:
    """`cost <= ceiling`, in counts."""

    cost: str
    ceiling: float

    def excess(self, costs: Mapping[str, float]) -> float:
        """By what share of the ceiling the cost is over it; 0 where it fits."""
        return max(0.0, costs[self.cost] / self.ceiling - 1.0)


def parse_constraints(
    wanted: Mapping[str, float | str], parent: Mapping[str, float]
) -> list[Constraint]:
    """Turn `{"encoder_params": "50%"}` into ceilings in counts.

    Args:
        wanted: cost name to a count, or to a share of the parent's such as "50%".
        parent: the parent's costs.

    Raises:
        InputError: an unknown cost or a value that is neither a positive count nor a share.
    """
    constraints = []
    for cost, value in wanted.items():
        if cost not in CONSTRAINED:
            raise InputError(f"constraints.{cost}: unknown; choose from {', '.join(CONSTRAINED)}")
        text = str(value).strip()
        try:
            ceiling = float(text[:-1]) / 100 * parent[cost] if text.endswith("%") else float(text)
        except ValueError:
            ceiling = -1.0
        if not ceiling > 0:
            raise InputError(
                f"constraints.{cost}: {value!r} is no bound; write a count such as 3000000, or a "
                "share of the parent such as 50%"
            )
        constraints.append(Constraint(cost, ceiling))
    return constraints
