import itertools
import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.subnet import Subnet, SubnetSpace

SMALL = SubnetSpace(((8, 16, 32), (16, 32), (32,), (8, 32)), (0.5, 0.0, 0.25, 0.4))


@st.composite
def spaces(draw: st.DrawFn) -> SubnetSpace:
    widths = st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True)
    drawn = draw(st.lists(widths, min_size=1, max_size=5))
    chances = [draw(st.sampled_from([0.0, 0.05, 0.5, 0.95])) for _ in drawn]
    chances[draw(st.integers(0, len(drawn) - 1))] = 0.0
    return SubnetSpace(tuple(tuple(sorted(w)) for w in drawn), tuple(chances))


def lies_inside(inner: Subnet, outer: Subnet) -> bool:
    outer_widths = dict(zip(outer.layers, outer.mlp_widths, strict=True))
    return all(
        layer in outer_widths and width <= outer_widths[layer]
        for layer, width in zip(inner.layers, inner.mlp_widths, strict=True)
    )


def all_subnets(space: SubnetSpace) -> list[Subnet]:
    removable = [i for i, p in enumerate(space.drop_probabilities) if p > 0]
    found = []
    for count in range(len(removable) + 1):
        for gone in itertools.combinations(removable, count):
            kept = tuple(i for i in range(len(space.widths)) if i not in gone)
            for widths in itertools.product(*(space.widths[i] for i in kept)):
                found.append(Subnet(kept, widths))
    return found


@given(spaces(), st.randoms(use_true_random=False))
def test_every_sampled_subnet_lies_between_the_smallest_and_the_largest(space, rng):
    subnet = space.sample(rng)
    assert lies_inside(space.smallest, subnet)
    assert lies_inside(subnet, space.largest)


@given(spaces(), st.randoms(use_true_random=False))
def test_sampled_subnets_belong_to_the_space(space, rng):
    assert space.contains(space.sample(rng))


@given(spaces())
def test_size_equals_the_brute_force_count(space):
    found = all_subnets(space)
    assert len(set(found)) == len(found) == space.size
    assert all(space.contains(subnet) for subnet in found)


@given(spaces())
def test_the_flat_form_is_a_bijection_over_the_choices(space):
    choices = space.choices()
    points = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    subnets = [space.from_flat(point) for point in points]
    assert [space.to_flat(subnet) for subnet in subnets] == points
    assert set(subnets) == set(all_subnets(space))
    assert len(set(subnets)) == len(points)


def test_layers_without_a_choice_have_no_dimension():
    space = SubnetSpace(((8,), (8, 16), (8,)), (0.0, 0.0, 0.1))
    assert space.choices() == {"layer_01.width": (8, 16), "layer_02.width": (0, 8)}


def test_a_flat_point_that_names_no_layer_is_the_largest_subnet():
    assert SMALL.from_flat({}) == SMALL.largest


@given(spaces(), st.integers(2, 9))
def test_ladder_descends_inside_the_space_from_the_largest_to_the_smallest(space, rungs):
    ladder = space.ladder(rungs)
    assert ladder[0] == space.largest
    assert ladder[-1] == space.smallest
    assert all(space.contains(subnet) for subnet in ladder)
    assert len(set(ladder)) == len(ladder) <= rungs
    assert all(lies_inside(small, big) for big, small in itertools.pairwise(ladder))


def test_ladder_removes_the_likeliest_layers_first():
    space = SubnetSpace(((8,),) * 4, (0.2, 0.0, 0.6, 0.4))
    assert [subnet.layers for subnet in space.ladder(4)] == [
        (0, 1, 2, 3),
        (0, 1, 3),
        (0, 1),
        (1,),
    ]


def test_layers_are_dropped_by_their_probability_and_widths_drawn_evenly():
    rng, draws = random.Random(0), 4000
    subnets = [SMALL.sample(rng) for _ in range(draws)]
    kept = Counter(layer for subnet in subnets for layer in subnet.layers)
    for layer, p in enumerate(SMALL.drop_probabilities):
        assert kept[layer] / draws == pytest.approx(1 - p, abs=0.03)
    widths = Counter(s.mlp_widths[s.layers.index(0)] for s in subnets if 0 in s.layers)
    assert all(widths[w] / kept[0] == pytest.approx(1 / 3, abs=0.04) for w in SMALL.widths[0])


def test_sampling_follows_from_the_generator_alone():
    first, second = random.Random(5), random.Random(5)
    assert [SMALL.sample(first) for _ in range(20)] == [SMALL.sample(second) for _ in range(20)]


@pytest.mark.parametrize(
    "subnet",
    [
        Subnet((0, 2, 3), (8, 32, 8)),  # without layer 1, which always stays
        Subnet((0, 1, 2, 3), (9, 16, 32, 8)),  # a width that is not on offer
        Subnet((0, 1, 2, 3, 4), (8, 16, 32, 8, 8)),  # deeper than the parent
    ],
)
def test_contains_refuses_what_no_sample_can_be(subnet):
    assert not SMALL.contains(subnet)


def test_subnets_survive_json():
    subnet = Subnet((0, 3), (8, 32))
    values = json.loads(json.dumps(subnet.to_dict() | {"more": 1}))
    assert Subnet.from_dict(values) == subnet
    assert Subnet.from_dict(values).key == subnet.key


@given(spaces())
def test_spaces_survive_json(space):
    again = SubnetSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.key == space.key


def test_keys_tell_subnets_and_spaces_apart():
    subnets = all_subnets(SMALL)
    assert len({subnet.key for subnet in subnets}) == len(subnets)
    changed = [
        SubnetSpace(SMALL.widths, (0.5, 0.0, 0.25, 0.3)),
        SubnetSpace(((8, 32), *SMALL.widths[1:]), SMALL.drop_probabilities),
    ]
    assert len({space.key for space in [SMALL, *changed]}) == 3


def test_keys_are_those_of_earlier_runs():
    assert Subnet((0, 2), (8, 16)).key == "2b50e6279d4b"
    assert SubnetSpace(((8, 16), (16,)), (0.5, 0.0)).key == "653b44f9375c"


@pytest.mark.parametrize(
    ("layers", "widths"),
    [
        ((), ()),
        ((0, 1), (8,)),
        ((1, 0), (8, 8)),
        ((0, 0), (8, 8)),
        ((-1, 0), (8, 8)),
        ((0, 1), (8, 0)),
    ],
)
def test_impossible_subnets_are_refused(layers, widths):
    with pytest.raises(ValueError, match=r"subnet needs|ascending|neuron"):
        Subnet(layers, widths)


@pytest.mark.parametrize(
    ("widths", "chances", "message"),
    [
        (((8,), (8,)), (0.0,), "one drop probability for each layer"),
        (((8, 4),), (0.0,), "ascending"),
        (((8, 8),), (0.0,), "ascending"),
        (((),), (0.0,), "ascending"),
        (((8,), (8,)), (0.0, 1.0), r"\[0, 1\)"),
        (((8,), (8,)), (0.0, -0.1), r"\[0, 1\)"),
        (((8,), (8,)), (0.5, 0.5), "at least one layer"),
    ],
)
def test_impossible_spaces_are_refused(widths, chances, message):
    with pytest.raises(ValueError, match=message):
        SubnetSpace(widths, chances)
