"""What a search maximises beside the MACs that are saved: mIoU, or a function of one's own."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.own_code import named_function
from trainables.sam.object_results import ObjectResult

MIOU = "miou"
"""The name of the objective unless told otherwise."""
Objective = Callable[[Subnet, Sequence[ObjectResult]], Mapping[str, float]]
"""A subnet and the result of each object that it was asked about, with masks; metrics by name, of
which the first is maximised and the others are recorded."""


def find_objective(name: str) -> Objective | None:
    """The function that a configuration names; None for mIoU.

    Raises:
        InputError: it is unknown.
    """
    if name == MIOU:
        return None
    return cast(Objective, named_function(name, "search.objective", [MIOU]))


def metrics_of(
    objective: Objective, subnet: Subnet, results: Sequence[ObjectResult]
) -> list[tuple[str, float]]:
    """What an objective says of a subnet, what is maximised first.

    Raises:
        InputError: that is not a mapping of names to finite numbers.
    """
    found = objective(subnet, results)
    where = f"search.objective: {getattr(objective, '__name__', objective)}"
    if not isinstance(found, Mapping) or not found:
        raise InputError(f"{where} gave {found!r}; give metrics by name, what is maximised first")
    try:
        metrics = [(str(name), float(value)) for name, value in found.items()]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} gave {dict(found)}; metrics are numbers") from error
    if not all(math.isfinite(value) for _, value in metrics):
        raise InputError(
            f"{where} gave {dict(metrics)} for subnet {subnet.key}; all must be finite"
        )
    return metrics


def quality(row: Mapping[str, Any], split: str) -> float:
    """What is maximised: the first metric of an objective of one's own, else mIoU."""
    own = row.get(f"metrics_{split}")
    value: float = own[0][1] if own else row[f"miou_{split}"]
    return value


def quality_name(row: Mapping[str, Any]) -> str:
    """What tables and axes call it."""
    own = row.get("metrics_val")
    return str(own[0][0]) if own else "mIoU"
