"""Random subnets under constraints."""

import itertools
import random
from collections import Counter

import pytest
from test_proposals import MACS, costs, subnets_of
from tiny import HEADED_SPACE, SPACE

from search_spaces import Constraint, Subnet, SubnetSpace
from search_spaces import feasible as feasible_module
from search_spaces.feasible import sample_feasible

PARAMS = costs(SPACE.largest)["params"]
BOUNDS = [
    [Constraint("encoder_macs", 0.94 * MACS)],
    [Constraint("params", floor=0.997 * PARAMS)],
    [Constraint("encoder_macs", 0.96 * MACS, 0.95 * MACS)],
    [Constraint("encoder_macs", 0.95 * MACS), Constraint("params", floor=0.992 * PARAMS)],
]


def fits(subnet: Subnet, bounds: list[Constraint]) -> bool:
    return not any(bound.excess(costs(subnet)) for bound in bounds)


def test_draws_that_fit_follow_the_spaces_distribution_under_the_constraints() -> None:
    rng, plain = random.Random(0), random.Random(1)
    bounds = BOUNDS[0]
    found = Counter(sample_feasible(SPACE, costs, bounds, rng) for _ in range(2000))
    drawn = Counter(s for s in (SPACE.sample(plain) for _ in range(20000)) if fits(s, bounds))
    assert set(found) <= set(drawn)
    for subnet, count in drawn.items():
        assert found[subnet] / 2000 == pytest.approx(count / drawn.total(), abs=0.04)


@pytest.mark.parametrize("space", [SPACE, HEADED_SPACE], ids=["plain", "heads"])
@pytest.mark.parametrize("bounds", BOUNDS, ids=["ceiling", "floor", "both", "two"])
def test_where_no_draw_fits_some_are_moved_until_they_do(
    space: SubnetSpace, bounds: list[Constraint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feasible_module, "DRAWS", 0)
    fitting = {subnet for subnet in subnets_of(space) if fits(subnet, bounds)}
    for seed in range(20):
        subnet = sample_feasible(space, costs, bounds, random.Random(seed))
        assert subnet in fitting
    assert sample_feasible(space, costs, bounds, random.Random(0), fitting) is None


def test_a_ceiling_that_only_the_smallest_keeps_is_reached() -> None:
    widths = tuple(tuple(range(8, 136, 8)) for _ in range(4))
    space = SubnetSpace(widths, (0.01, 0.01, 0.01, 0.0))
    least = costs(space.smallest)["encoder_macs"]
    tight = [Constraint("encoder_macs", least + 1)]
    assert sample_feasible(space, costs, tight, random.Random(0)) == space.smallest
    full = [Constraint("encoder_macs", floor=costs(space.largest)["encoder_macs"])]
    assert sample_feasible(space, costs, full, random.Random(0)) == space.largest


def test_what_is_taken_does_not_come_again_and_an_end_is_found() -> None:
    rng, taken = random.Random(0), set()
    for _ in range(SPACE.size):
        subnet = sample_feasible(SPACE, costs, [], rng, taken)
        assert subnet is not None
        assert subnet not in taken
        taken.add(subnet)
    assert sample_feasible(SPACE, costs, [], rng, taken) is None
    assert sample_feasible(SPACE, costs, [Constraint("params", 1.0)], rng) is None


def test_the_seed_decides() -> None:
    def draw(seed: int) -> list[Subnet | None]:
        rng = random.Random(seed)
        return [sample_feasible(HEADED_SPACE, costs, BOUNDS[0], rng) for _ in range(5)]

    assert draw(0) == draw(0)
    assert len({tuple(draw(seed)) for seed in range(4)}) == 4


def test_options_ascend_as_moving_takes_them_to() -> None:
    for space in (SPACE, HEADED_SPACE):
        options = space.choices()
        flats = [space.to_flat(subnet) for subnet in subnets_of(space)]
        for flat, (name, offered) in itertools.product(flats, options.items()):
            grown = [costs(space.from_flat({**flat, name: option})) for option in offered]
            for less, more in itertools.pairwise(grown):
                assert all(less[cost] <= more[cost] for cost in less)
