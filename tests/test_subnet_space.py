import itertools
import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.content_key import content_key
from search_spaces.subnet import LayerSize, Subnet
from search_spaces.subnet_space import SubnetSpace

SMALL = SubnetSpace(((8, 16, 32), (16, 32), (32,), (8, 32)), (0.5, 0.0, 0.25, 0.4))
HEADED = SubnetSpace(((8, 32), (16, 32), (32,)), (0.5, 0.0, 0.25), heads=((1, 2, 4), (2, 3), (6,)))


@st.composite
def spaces(draw: st.DrawFn, elastic: tuple[bool, ...] = (False, True)) -> SubnetSpace:
    widths = st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True)
    counts = st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True)
    drawn = draw(st.lists(widths, min_size=1, max_size=4))
    chances = [draw(st.sampled_from([0.0, 0.05, 0.5, 0.95])) for _ in drawn]
    chances[draw(st.integers(0, len(drawn) - 1))] = 0.0
    heads = [draw(counts) for _ in drawn] if draw(st.sampled_from(elastic)) else []
    return SubnetSpace(
        tuple(tuple(sorted(w)) for w in drawn),
        tuple(chances),
        tuple(tuple(sorted(h)) for h in heads),
    )


def lies_inside(inner: Subnet, outer: Subnet, space: SubnetSpace) -> bool:
    small, big = (
        {layer: (size.mlp_width, size.heads or 99) for layer, size in sizes.items()}
        for sizes in (inner.sizes(space.full_heads), outer.sizes(space.full_heads))
    )
    return all(
        layer in big and width <= big[layer][0] and heads <= big[layer][1]
        for layer, (width, heads) in small.items()
    )


def all_subnets(space: SubnetSpace) -> list[Subnet]:
    removable = [i for i, p in enumerate(space.drop_probabilities) if p > 0]
    found = []
    for count in range(len(removable) + 1):
        for gone in itertools.combinations(removable, count):
            kept = tuple(i for i in range(len(space.widths)) if i not in gone)
            offered = [space.heads[i] for i in kept if space.heads]
            for widths in itertools.product(*(space.widths[i] for i in kept)):
                for heads in itertools.product(*offered):
                    whole = heads == tuple(counts[-1] for counts in offered)
                    found.append(Subnet(kept, widths, () if whole else heads))
    return found


@given(spaces(), st.randoms(use_true_random=False))
def test_every_sampled_subnet_lies_between_the_smallest_and_the_largest(space, rng):
    subnet = space.sample(rng)
    assert lies_inside(space.smallest, subnet, space)
    assert lies_inside(subnet, space.largest, space)


@given(spaces(), st.randoms(use_true_random=False))
def test_sampled_subnets_belong_to_the_space(space, rng):
    assert space.contains(space.sample(rng))


@given(spaces())
def test_size_equals_the_brute_force_count(space):
    found = all_subnets(space)
    assert len(set(found)) == len(found) == space.size
    assert all(space.contains(subnet) for subnet in found)


@given(spaces(elastic=(False,)))
def test_the_flat_form_is_a_bijection_over_the_choices(space):
    choices = space.choices()
    points = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    subnets = [space.from_flat(point) for point in points]
    assert [space.to_flat(subnet) for subnet in subnets] == points
    assert set(subnets) == set(all_subnets(space))
    assert len(set(subnets)) == len(points)


@given(spaces(elastic=(True,)))
def test_with_heads_points_differ_without_a_difference_only_in_removed_layers(space):
    choices = space.choices()
    points = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    assert {space.from_flat(point) for point in points} == set(all_subnets(space))
    for point in points[:: 1 + len(points) // 50]:
        again = space.to_flat(space.from_flat(point))
        for name, value in point.items():
            width = point.get(name.replace("heads", "width"))
            assert again[name] == (max(choices[name]) if width == 0 != value else value)


def test_layers_without_a_choice_have_no_dimension():
    space = SubnetSpace(((8,), (8, 16), (8,)), (0.0, 0.0, 0.1))
    assert space.choices() == {"layer_01.width": (8, 16), "layer_02.width": (0, 8)}
    assert HEADED.choices() == {
        "layer_00.width": (0, 8, 32),
        "layer_00.heads": (1, 2, 4),
        "layer_01.width": (16, 32),
        "layer_01.heads": (2, 3),
        "layer_02.width": (0, 32),
    }


def test_heads_are_named_where_a_layer_has_fewer_and_only_there():
    whole = {"layer_00.width": 8, "layer_01.width": 16}
    assert HEADED.from_flat(whole) == Subnet((0, 1, 2), (8, 16, 32))
    assert HEADED.from_flat({**whole, "layer_00.heads": 4}) == Subnet((0, 1, 2), (8, 16, 32))
    fewer = HEADED.from_flat({**whole, "layer_00.heads": 1})
    assert fewer == Subnet((0, 1, 2), (8, 16, 32), (1, 3, 6))
    assert HEADED.from_flat({"layer_00.width": 0, "layer_00.heads": 1}) == Subnet((1, 2), (32, 32))
    # What is left of it has all its heads.
    assert fewer.without({0}, HEADED.full_heads) == Subnet((1, 2), (16, 32))
    assert HEADED.largest == Subnet((0, 1, 2), (32, 32, 32))
    assert HEADED.smallest == Subnet((1,), (16,), (2,))
    assert HEADED.narrowest_without({1}) == Subnet((0, 2), (8, 32), (1, 6))


def test_sizes_are_what_a_subnet_is_made_of():
    sizes = {0: LayerSize(8, 1), 2: LayerSize(32)}
    subnet = Subnet.of(sizes, HEADED.full_heads)
    assert subnet == Subnet((0, 2), (8, 32), (1, 6))
    assert subnet.sizes(HEADED.full_heads) == sizes
    assert Subnet.of({0: LayerSize(8, 4)}, HEADED.full_heads) == Subnet((0,), (8,))
    assert Subnet((0,), (8,)).sizes(()) == {0: LayerSize(8)}
    with pytest.raises(ValueError, match="heads are not elastic here"):
        subnet.sizes(())


def test_a_flat_point_that_names_no_layer_is_the_largest_subnet():
    assert SMALL.from_flat({}) == SMALL.largest


@given(spaces(), st.integers(2, 9))
def test_ladder_descends_inside_the_space_from_the_largest_to_the_smallest(space, rungs):
    ladder = space.ladder(rungs)
    assert ladder[0] == space.largest
    assert ladder[-1] == space.smallest
    assert all(space.contains(subnet) for subnet in ladder)
    assert len(set(ladder)) == len(ladder) <= rungs
    assert all(lies_inside(small, big, space) for big, small in itertools.pairwise(ladder))


def test_ladder_removes_the_likeliest_layers_first():
    space = SubnetSpace(((8,),) * 4, (0.2, 0.0, 0.6, 0.4))
    assert [subnet.layers for subnet in space.ladder(4)] == [
        (0, 1, 2, 3),
        (0, 1, 3),
        (0, 1),
        (1,),
    ]


def test_ladder_shrinks_mlps_and_attentions_together():
    space = SubnetSpace(((8, 16, 24),) * 2, (0.0, 0.0), heads=((1, 2, 3), (1, 4, 9)))
    assert space.ladder(3) == [
        Subnet((0, 1), (24, 24)),
        Subnet((0, 1), (16, 16), (2, 4)),
        Subnet((0, 1), (8, 8), (1, 1)),
    ]


def test_layers_are_dropped_by_their_probability_and_widths_drawn_evenly():
    rng, draws = random.Random(0), 4000
    subnets = [SMALL.sample(rng) for _ in range(draws)]
    kept = Counter(layer for subnet in subnets for layer in subnet.layers)
    for layer, p in enumerate(SMALL.drop_probabilities):
        assert kept[layer] / draws == pytest.approx(1 - p, abs=0.03)
    widths = Counter(s.mlp_widths[s.layers.index(0)] for s in subnets if 0 in s.layers)
    assert all(widths[w] / kept[0] == pytest.approx(1 / 3, abs=0.04) for w in SMALL.widths[0])


def test_heads_are_drawn_evenly():
    rng, draws = random.Random(0), 4000
    sizes = [HEADED.sample(rng).sizes(HEADED.full_heads) for _ in range(draws)]
    drawn = Counter(found[0].heads for found in sizes if 0 in found)
    assert all(
        drawn[heads] / drawn.total() == pytest.approx(1 / 3, abs=0.04) for heads in (1, 2, None)
    )


def test_a_space_without_heads_draws_what_it_always_drew():
    rng = random.Random(5)
    assert content_key([SMALL.sample(rng).key for _ in range(50)]) == "3a22e196a59b"


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


def test_contains_looks_at_heads():
    subnet = Subnet((0, 1, 2), (8, 16, 32), (1, 3, 6))
    assert HEADED.contains(subnet)
    assert HEADED.contains(Subnet((0, 1, 2), (8, 16, 32)))
    assert not HEADED.contains(Subnet((0, 1, 2), (8, 16, 32), (3, 3, 6)))
    assert not SubnetSpace(HEADED.widths, HEADED.drop_probabilities).contains(subnet)


@pytest.mark.parametrize("subnet", [Subnet((0, 3), (8, 32)), Subnet((0, 3), (8, 32), (2, 1))])
def test_subnets_survive_json(subnet):
    values = json.loads(json.dumps(subnet.to_dict() | {"more": 1}))
    assert Subnet.from_dict(values) == subnet
    assert Subnet.from_dict(values).key == subnet.key


@pytest.mark.parametrize("heads", [{}, {"heads": None}, {"heads": []}])
def test_what_was_written_before_heads_is_read_as_having_all(heads):
    values = {"layers": [0, 3], "mlp_widths": [8, 32], **heads}
    assert Subnet.from_dict(values) == Subnet((0, 3), (8, 32))


@given(spaces())
def test_spaces_survive_json(space):
    again = SubnetSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.key == space.key


def test_keys_tell_subnets_and_spaces_apart():
    subnets = [*all_subnets(SMALL), *all_subnets(HEADED)]
    assert len({subnet.key for subnet in subnets}) == len(set(subnets)) > SMALL.size + 20
    changed = [
        SubnetSpace(SMALL.widths, (0.5, 0.0, 0.25, 0.3)),
        SubnetSpace(((8, 32), *SMALL.widths[1:]), SMALL.drop_probabilities),
        SubnetSpace(SMALL.widths, SMALL.drop_probabilities, ((1, 2),) * 4),
        SubnetSpace(SMALL.widths, SMALL.drop_probabilities, ((1, 3),) * 4),
    ]
    assert len({space.key for space in [SMALL, *changed]}) == 5


def test_keys_are_those_of_earlier_runs():
    assert Subnet((0, 2), (8, 16)).key == "2b50e6279d4b"
    assert SubnetSpace(((8, 16), (16,)), (0.5, 0.0)).key == "653b44f9375c"


@pytest.mark.parametrize(
    ("layers", "widths", "heads"),
    [
        ((), (), ()),
        ((0, 1), (8,), ()),
        ((1, 0), (8, 8), ()),
        ((0, 0), (8, 8), ()),
        ((-1, 0), (8, 8), ()),
        ((0, 1), (8, 0), ()),
        ((0, 1), (8, 8), (1,)),
        ((0, 1), (8, 8), (1, 0)),
    ],
)
def test_impossible_subnets_are_refused(layers, widths, heads):
    with pytest.raises(ValueError, match=r"subnet needs|ascending|neuron|attention head"):
        Subnet(layers, widths, heads)


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


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (((1, 2),), "heads for each layer"),
        (((1, 2), (2, 1)), "heads must be ascending"),
        (((1, 2), ()), "heads must be ascending"),
        (((1, 2), (0, 1)), "positive"),
    ],
)
def test_impossible_heads_are_refused(heads, message):
    with pytest.raises(ValueError, match=message):
        SubnetSpace(((8,), (8,)), (0.0, 0.0), heads)
