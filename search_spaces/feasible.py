"""Subnets that keep constraints, drawn at random in bounded time."""

import random
from collections.abc import Callable, Container, Mapping, Sequence

from search_spaces.constraints import Constraint
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace

DRAWS = 1000
"""Random subnets that are tried as they are."""
WALKS = 100
"""Random subnets that are then moved until they fit."""


def sample_feasible(
    space: SubnetSpace,
    costs: Callable[[Subnet], Mapping[str, float]],
    constraints: Sequence[Constraint],
    rng: random.Random,
    taken: Container[Subnet] = frozenset(),
) -> Subnet | None:
    """A random subnet that keeps the constraints and is not taken.

    The first of `DRAWS` draws that fits is returned: exactly the space's own distribution, given
    that the constraints are kept. Where none fits, each of `WALKS` draws is moved until it does: a
    width, a removal or a number of heads at random goes one option down while a ceiling is broken,
    towards the smallest subnet, and up while only a floor is, towards the largest. That is not the
    space's distribution: it stops just inside the bounds, so it prefers subnets close to them, in
    shape near those that the space likes most, and where many ways lead to one it comes more often.

    Args:
        space: the subnets on offer.
        costs: a subnet's costs by name; none falls where the subnet grows.
        constraints: to be kept.
        rng: the source of randomness.
        taken: subnets that are not wanted again.

    Returns:
        None where neither way found one: there may be some all the same.
    """
    for _ in range(DRAWS):
        subnet = space.sample(rng)
        if subnet not in taken and not any(c.excess(costs(subnet)) for c in constraints):
            return subnet
    for _ in range(WALKS):
        moved = _moved(space, space.sample(rng), costs, constraints, rng)
        if moved is not None and moved not in taken:
            return moved
    return None


def _moved(
    space: SubnetSpace,
    subnet: Subnet,
    costs: Callable[[Subnet], Mapping[str, float]],
    constraints: Sequence[Constraint],
    rng: random.Random,
) -> Subnet | None:
    """The first subnet on a random way towards the bounds that fits; None where none does.

    A way turns where it has crossed from a broken ceiling to a broken floor; it has at most twice
    as many steps as lie between the smallest subnet and the largest.
    """
    options, flat = space.choices(), space.to_flat(subnet)
    at = {name: offered.index(flat[name]) for name, offered in options.items()}
    for _ in range(2 * sum(len(offered) for offered in options.values())):
        subnet = space.from_flat({name: options[name][i] for name, i in at.items()})
        found = costs(subnet)
        if not any(c.excess(found) for c in constraints):
            return subnet
        step = -1 if any(c.over(found) for c in constraints) else 1
        movable = [name for name, i in at.items() if 0 <= i + step < len(options[name])]
        if not movable:
            return None
        at[rng.choice(movable)] += step
    return None
