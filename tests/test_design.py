import dataclasses
import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from search_spaces.design import WIDTH_MULTIPLE, Design, DesignSpace, slice_ratios
from search_spaces.drop_probabilities import drop_probabilities

DESIGN = Design(
    metric="wanda",
    expected_dropped=2.0,
    removable=5,
    temperature=0.1,
    cap=0.5,
    width_count=4,
    smallest_ratio=0.25,
    spacing="linear",
    protected=(0,),
)
WORTH = [0.3, 0.02, 0.2, 0.04, 0.4, 0.01, 0.03, 0.5]
CHANGES = {
    "metric": "magnitude",
    "expected_dropped": 1.5,
    "removable": 4,
    "temperature": 0.2,
    "cap": 0.75,
    "width_count": 3,
    "smallest_ratio": 0.5,
    "spacing": "geometric",
    "smallest_heads": 0.5,
    "protected": (),
    "protect_above": 0.5,
    "probabilities": (0.5,),
}
GIVEN = {1: 0.5, 5: 0.8, 2: 0.0}


@given(st.integers(2, 9), st.floats(0.01, 0.99))
def test_linear_ratios_have_equal_differences(count, smallest):
    ratios = slice_ratios(count, smallest, "linear")
    steps = [b - a for a, b in itertools.pairwise(ratios)]
    assert ratios[0] == pytest.approx(smallest)
    assert (len(ratios), ratios[-1]) == (count, 1.0)
    assert steps == pytest.approx([(1 - smallest) / (count - 1)] * (count - 1))


@given(st.integers(2, 9), st.floats(0.01, 0.99))
def test_geometric_ratios_have_equal_quotients(count, smallest):
    ratios = slice_ratios(count, smallest, "geometric")
    steps = [math.log(b / a) for a, b in itertools.pairwise(ratios)]
    assert ratios[0] == pytest.approx(smallest)
    assert (len(ratios), ratios[-1]) == (count, 1.0)
    assert steps == pytest.approx([-math.log(smallest) / (count - 1)] * (count - 1))


@pytest.mark.parametrize("spacing", ["linear", "geometric"])
def test_a_single_ratio_is_the_full_width(spacing):
    assert slice_ratios(1, 0.25, spacing) == (1.0,)


def test_a_drawn_up_space_has_the_designs_widths_and_probabilities():
    space = DESIGN.draw_up(WORTH, [768] * 8, [12] * 8)
    assert space.widths == ((192, 384, 576, 768),) * 8
    assert space.drop_probabilities == drop_probabilities(
        WORTH, expected_dropped=2.0, removable=5, temperature=0.1, cap=0.5, protected=(0,)
    )


@given(
    st.lists(st.integers(1, 600), min_size=8, max_size=8),
    st.integers(1, 6),
    st.floats(0.05, 1),
    st.sampled_from(["linear", "geometric"]),
)
def test_drawn_up_widths_end_at_the_parents_and_are_multiples_before(full, count, least, spacing):
    design = dataclasses.replace(DESIGN, width_count=count, smallest_ratio=least, spacing=spacing)
    for offered, parent in zip(design.draw_up(WORTH, full, [12] * 8).widths, full, strict=True):
        assert offered[-1] == parent
        assert len(offered) <= count
        assert all(w % WIDTH_MULTIPLE == 0 for w in offered[:-1])


@pytest.mark.parametrize(
    ("smallest", "spacing", "offered"),
    [
        (0.25, "linear", ((3, 6, 9, 12), (1, 2, 3, 4), (1, 2), (1,))),
        (0.5, "linear", ((6, 8, 10, 12), (2, 3, 4), (1, 2), (1,))),
        (0.25, "geometric", ((3, 5, 8, 12), (1, 2, 3, 4), (1, 2), (1,))),
        (0.01, "geometric", ((1, 3, 12), (1, 4), (1, 2), (1,))),
    ],
)
def test_a_drawn_up_space_has_the_designs_heads(smallest, spacing, offered):
    design = dataclasses.replace(DESIGN, smallest_heads=smallest, spacing=spacing)
    full = (12, 4, 2, 1)
    assert design.draw_up(WORTH, [768] * 8, full * 2).heads == offered * 2


@pytest.mark.parametrize(
    ("changes", "full"),
    [({}, [12] * 8), ({"smallest_heads": 0.5}, []), ({"smallest_heads": 0.5}, [1] * 8)],
)
def test_without_a_choice_of_heads_a_space_has_none(changes, full):
    space = dataclasses.replace(DESIGN, **changes).draw_up(WORTH, [768] * 8, full)
    assert space.heads == ()
    assert space == DESIGN.draw_up(WORTH, [768] * 8, [12] * 8)


def test_a_single_share_of_heads_is_no_choice_that_changes_a_key():
    assert DESIGN.key == "4ea4cfcae187"
    space = DesignSpace()
    assert [space.design(p).key for p in space.first_points()] == ["af6b8692c2fe", "f67b5ec8886b"]
    assert not space.has_elastic_heads
    assert DesignSpace(smallest_heads=[1.0, 0.5]).has_elastic_heads


def test_designs_from_before_heads_are_read():
    values = DESIGN.to_dict()
    del values["smallest_heads"]
    for written in (values, {**values, "smallest_heads": None}):
        assert Design.from_dict(written) == DESIGN


def test_each_parameter_of_a_design_changes_its_key():
    assert list(CHANGES) == [field.name for field in dataclasses.fields(Design)]
    changed = [dataclasses.replace(DESIGN, **{name: value}) for name, value in CHANGES.items()]
    assert len({design.key for design in [DESIGN, *changed]}) == len(CHANGES) + 1


def test_designs_survive_json_with_their_key():
    values = json.loads(json.dumps(DESIGN.to_dict() | {"hypervolume": 0.3}))
    assert Design.from_dict(values) == DESIGN
    assert Design.from_dict(values).key == DESIGN.key


def test_where_every_layer_may_stay_the_search_also_starts_from_slices_alone() -> None:
    space = DesignSpace(
        removable=[5, 0], smallest_ratio=[0.5, 0.125, 0.25], smallest_heads=[1.0, 0.25, 0.5]
    )
    default, released, sliced = map(space.design, space.first_points())
    assert (default.removable, released.removable, sliced.removable) == (5, 5, 0)
    assert (sliced.smallest_ratio, sliced.smallest_heads) == (0.125, 0.25)
    drawn = sliced.draw_up([0.1] * 3, [64] * 3, [4] * 3)
    assert drawn.removable == ()
    assert drawn.heads[0][0] == 1
    alone = DesignSpace(removable=[0], smallest_ratio=[0.25], smallest_heads=[1.0])
    assert len(alone.first_points()) <= 2


def test_given_probabilities_stand_whatever_layers_are_worth():
    space = DesignSpace(probabilities=GIVEN)
    (first,) = space.first_points()
    design = space.design(first)
    for worth in (WORTH, WORTH[::-1], [0.0] * 8):
        drawn_up = design.draw_up(worth, [768] * 8, [12] * 8)
        assert drawn_up.drop_probabilities == (0.0, 0.5, 0.0, 0.0, 0.0, 0.8, 0.0, 0.0)
    assert (design.expected_dropped, design.removable, design.cap) == (1.3, 2, 0.8)
    assert design.temperature is None
    assert Design.from_dict(json.loads(json.dumps(design.to_dict()))) == design


def test_given_probabilities_leave_the_searcher_what_they_do_not_settle():
    choices = DesignSpace(probabilities=GIVEN).choices()
    assert list(choices) == ["metric", "width_count", "smallest_ratio", "spacing", "smallest_heads"]
    everything = DesignSpace().choices()
    assert all(everything[name] == values for name, values in choices.items())
    assert all(isinstance(v, str | int | float) for values in choices.values() for v in values)


def test_a_layer_with_several_probabilities_is_a_dimension():
    space = DesignSpace(probabilities={3: [0, 0.25, 0.5], 7: [0.5], 1: 0.25})
    choices = space.choices()
    assert choices["probability_03"] == (0.0, 0.25, 0.5)
    assert [name for name in choices if name.startswith("probability")] == ["probability_03"]
    default = space.first_points()[0]
    for third, removable in ((0.0, 2), (0.25, 3), (0.5, 3)):
        design = space.design({**default, "probability_03": third})
        assert design.probabilities == (0.0, 0.25, 0.0, third, 0.0, 0.0, 0.0, 0.5)
        assert (design.expected_dropped, design.removable) == (0.75 + third, removable)
        fixed = DesignSpace(probabilities={1: 0.25, 3: third, 7: 0.5})
        assert fixed.design(fixed.first_points()[0]).key == design.key


@pytest.mark.parametrize(
    "space",
    [
        DesignSpace(protected=(0,), protect_above=0.9),
        DesignSpace(smallest_heads=[1.0, 0.5], probabilities=GIVEN),
        DesignSpace(probabilities={3: [0, 0.25, 0.5], 11: [0.1, 0.2]}),
    ],
)
def test_a_design_leads_back_to_its_point(space):
    choices = space.choices()
    for values in itertools.islice(itertools.product(*choices.values()), 0, None, 7):
        point = dict(zip(choices, values, strict=True))
        assert space.flat(Design.from_dict(space.design(point).to_dict())) == point


def test_a_threshold_reaches_the_space_that_is_drawn_up():
    space = DesignSpace(protect_above=0.05)
    design = space.design(space.first_points()[0])
    drawn_up = design.draw_up(WORTH, [768] * 8, [12] * 8)
    assert drawn_up.removable == (1, 5), "0.03 of 0.5 is more than that share"


def test_every_point_of_the_choices_is_a_design_that_draws_up_a_space():
    space = DesignSpace(protected=(0,))
    choices = space.choices()
    designs = [
        space.design(dict(zip(choices, values, strict=True)))
        for values in itertools.product(*choices.values())
    ]
    assert len({design.key for design in designs}) == math.prod(map(len, choices.values()))
    for design in designs[::17]:
        drawn_up = design.draw_up(WORTH, [768] * 8, [12] * 8)
        assert drawn_up.drop_probabilities[0] == 0
        assert 1 < len(drawn_up.removable) <= design.removable


def test_the_search_starts_at_the_first_values_and_at_a_space_like_the_papers():
    default, released = DesignSpace().first_points()
    assert default == {name: values[0] for name, values in DesignSpace().choices().items()}
    assert released == default | {"temperature": 0.02, "expected_dropped": 2.5}
    space = DesignSpace().design(released).draw_up(WORTH, [768] * 8, [12] * 8)
    assert sorted(space.drop_probabilities) == [0.0] * 3 + [0.5] * 5
    only = DesignSpace(temperature=[0.1], expected_dropped=[1.0])
    assert len(only.first_points()) == 1


def test_the_released_space_is_the_nearest_on_offer():
    space = DesignSpace(
        removable=[3, 6, 9],
        cap=[0.75, 0.4],
        width_count=[2, 4],
        smallest_ratio=[0.5, 0.2],
        spacing=["geometric", "linear"],
    )
    _, released = space.first_points()
    nearest = {"removable": 6, "cap": 0.4, "width_count": 4, "smallest_ratio": 0.2}
    assert {name: released[name] for name in nearest} == nearest
    assert released["spacing"] == "linear"


def test_among_given_probabilities_the_released_layers_are_the_papers():
    space = DesignSpace(probabilities={i: [0.0, 0.25, 0.5] for i in range(11)})
    default, released = (space.design(point) for point in space.first_points())
    assert default.probabilities == (0.0,) * 11
    assert [i for i, p in enumerate(released.probabilities) if p == 0.5] == [1, 2, 5, 6, 9]
    assert sum(released.probabilities) == 2.5


@pytest.mark.parametrize(
    "values",
    [
        {"temprature": [0.1]},
        {"metric": "wanda"},
        {"cap": []},
        {"spacing": ["log"]},
        {"smallest_heads": [0]},
        {"smallest_heads": [1.5]},
        {"protect_above": 0},
        {"probabilities": {1: 1.0}},
        {"probabilities": {-1: 0.5}},
        {"probabilities": {1: []}},
        {"probabilities": {1: [0.5, 1.0]}},
    ],
)
def test_design_spaces_refuse_what_they_do_not_know(values):
    with pytest.raises(ValidationError, match=next(iter(values))):
        DesignSpace(**values)
