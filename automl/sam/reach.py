"""What the designs on offer can reach: the range of each cost, and constraints outside it."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from automl.amounts import format_amount
from automl.sam.workspace import Workspace
from search_spaces.constraints import Constraint
from search_spaces.design import probability_name
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace


@dataclass(frozen=True)
class Range:
    """From the smallest subnet of all designs to the parent, in the cost's unit."""

    least: float
    most: float


def reachable(workspace: Workspace, worth: Sequence[float] | None) -> dict[str, Range]:
    """The range of each cost that can be constrained.

    Args:
        workspace: its configuration says which designs are on offer.
        worth: what each layer is worth; None where it was not measured: then for each cost the
            layers go whose removal saves most of it, so that no worth reaches less.
    """
    least = dict(workspace.parent_costs)
    for smallest in _smallest_subnets(workspace, worth):
        for cost, value in workspace.costs(smallest).items():
            least[cost] = min(least[cost], value)
    return {cost: Range(least[cost], most) for cost, most in workspace.parent_costs.items()}


def check_reachable(workspace: Workspace, worth: Sequence[float] | None) -> None:
    """Refuse constraints that no subnet of the designs on offer can keep.

    Whether some subnet lies between a floor and a ceiling that are both within reach is not known
    here: a search that finds none says so.

    Args:
        workspace: its configuration has the constraints.
        worth: as `reachable` takes it.

    Raises:
        InputError: there is one; the message has the range that can be reached.
    """
    if not workspace.constraints:
        return
    ranges = reachable(workspace, worth)
    for constraint in workspace.constraints:
        least, most = ranges[constraint.cost].least, ranges[constraint.cost].most
        if not within(ranges[constraint.cost], constraint):
            bound = constraint.ceiling if least > constraint.ceiling else constraint.floor
            raise InputError(
                f"constraints.{constraint.cost}: {format_amount(bound)} can't be reached; the "
                f"designs on offer reach {format_amount(least)} to {format_amount(most)} "
                f"({least / most:.0%} to 100% of the parent)"
            )


def within(reach: Range, constraint: Constraint) -> bool:
    """Whether a range reaches into a constraint's bounds."""
    return reach.least <= constraint.ceiling and constraint.floor <= reach.most


def design_count(workspace: Workspace) -> int:
    """How many designs are on offer."""
    return math.prod(map(len, workspace.config.designs.space.choices().values()))


def _smallest_subnets(workspace: Workspace, worth: Sequence[float] | None) -> set[Subnet]:
    """The smallest subnet of each design; without worth one for each cost."""
    offered = workspace.config.designs.space
    # The score orders neurons; it changes no size.
    choices = {**offered.choices(), "metric": offered.metric[:1]}
    # Which layers may go at all decides the smallest subnet.
    for name in map(probability_name, offered.offered_probabilities):
        if name in choices:
            choices[name] = (max(choices[name]),)
    found: set[Subnet] = set()
    for point in itertools.product(*choices.values()):
        design = offered.design(dict(zip(choices, point, strict=True)))
        space = workspace.draw_up(design, worth or equal_worth(workspace))
        if worth is None and space.removable and not offered.probabilities:
            found.update(_most_saving(workspace, space))
        else:
            found.add(space.smallest)
    return found


def equal_worth(workspace: Workspace) -> list[float]:
    """Stands for worth that was not measured: no other one lets more layers go.

    All layers are worth the same, but for a protected one, if there is any: the worthiest layer
    always stays, and it may be that one.
    """
    worth = [0.0] * workspace.encoder.depth
    for layer in workspace.config.designs.space.protected[:1]:
        worth[layer] = 1.0
    return worth


def _most_saving(workspace: Workspace, space: SubnetSpace) -> Iterator[Subnet]:
    """For each cost the subnet without those layers, as many as `space` lets go, that cost most."""
    protected = workspace.config.designs.space.protected
    open_layers = [layer for layer in range(space.depth) if layer not in protected]
    without = {layer: workspace.costs(space.narrowest_without({layer})) for layer in open_layers}
    for cost in workspace.parent_costs:
        costliest = sorted(open_layers, key=lambda layer: without[layer][cost])
        yield space.narrowest_without(costliest[: len(space.removable)])
