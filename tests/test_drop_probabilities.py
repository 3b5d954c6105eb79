import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.drop_probabilities import FLOOR, drop_probabilities
from search_spaces.subnet_space import SubnetSpace

ROUNDING = 1e-6
WORTH = [0.31, 0.02, 0.25, 0.04, 0.40, 0.01, 0.03, 0.55, 0.05, 0.20, 0.35, 0.60]
LEAST_WORTHY = {1, 3, 5, 6, 8}


@st.composite
def arguments(draw: st.DrawFn, worths: st.SearchStrategy[float]) -> dict[str, Any]:
    worth = draw(st.lists(worths, min_size=2, max_size=12, unique=True))
    return {
        "worth": worth,
        "expected_dropped": draw(st.floats(0, 6)),
        "removable": draw(st.integers(0, 12)),
        "temperature": draw(st.floats(0.005, 3)),
        "cap": draw(st.floats(0.1, 0.9)),
        "protected": draw(st.sets(st.integers(0, len(worth) - 1))),
        "protect_above": draw(st.none() | st.floats(0.01, 1)),
    }


anything = arguments(st.floats(-0.5, 1))
spaced = arguments(st.integers(0, 100).map(lambda n: n / 100))


@given(anything)
def test_probabilities_add_up_to_what_fits_under_the_cap(values):
    found = drop_probabilities(**values)
    room = values["cap"] * sum(p > 0 for p in found)
    assert sum(found) == pytest.approx(min(values["expected_dropped"], room), abs=2e-5)


@given(anything)
def test_probabilities_are_zero_or_between_floor_and_cap(values):
    for p in drop_probabilities(**values):
        assert p == 0 or FLOOR - ROUNDING <= p <= values["cap"] + ROUNDING


@given(anything)
def test_protected_layers_and_the_worthiest_stay(values):
    found = drop_probabilities(**values)
    worthiest = values["worth"].index(max(values["worth"]))
    assert all(found[i] == 0 for i in values["protected"] | {worthiest})
    assert sum(p > 0 for p in found) <= values["removable"]


@given(anything)
def test_layers_worth_their_share_of_the_worthiest_stay(values):
    found = drop_probabilities(**values)
    ceiling = (values["protect_above"] or 1) * max(values["worth"])
    for worth, p in zip(values["worth"], found, strict=True):
        assert p == 0 or worth < ceiling + 1e-12 or ceiling <= 0


@given(anything)
def test_a_threshold_protects_as_names_do(values):
    highest = max(values["worth"])
    above = values["protect_above"]
    named = {
        i
        for i, worth in enumerate(values["worth"])
        if above is not None and max(0.0, worth) / max(highest, 1e-12) >= above
    }
    by_name = {"protect_above": None, "protected": values["protected"] | named}
    assert drop_probabilities(**values) == drop_probabilities(**(values | by_name))


@given(anything)
def test_probabilities_always_make_a_space(values):
    found = drop_probabilities(**values)
    space = SubnetSpace(((8,),) * len(found), found)
    assert space.removable == tuple(i for i, p in enumerate(found) if p > 0)


@given(spaced)
def test_a_layer_of_less_worth_is_never_less_likely_to_go(values):
    found = drop_probabilities(**values)
    free = [i for i in range(len(found)) if i not in values["protected"]]
    by_worth = [found[i] for i in sorted(free, key=values["worth"].__getitem__)]
    assert all(p >= q - ROUNDING for p, q in itertools.pairwise(by_worth))


def test_layers_below_zero_keep_their_order_when_the_floor_is_applied():
    found = drop_probabilities(
        [-0.3, -0.2, -0.1, 0.0, 1.0], expected_dropped=0.1, removable=4, temperature=0.1, cap=0.5
    )
    assert found == (0.05, 0.05, 0.0, 0.0, 0.0)


def test_a_low_temperature_reaches_the_space_of_the_paper():
    found = drop_probabilities(WORTH, expected_dropped=2.5, removable=5, temperature=0.02, cap=0.5)
    assert found == tuple(0.5 if i in LEAST_WORTHY else 0.0 for i in range(len(WORTH)))


def test_a_low_temperature_fills_the_least_worthy_layers_to_the_cap_first():
    found = drop_probabilities(
        WORTH, expected_dropped=1.25, removable=8, temperature=0.001, cap=0.5
    )
    assert {i: p for i, p in enumerate(found) if p} == {5: 0.5, 1: 0.5, 6: 0.25}


def test_a_high_temperature_spreads_the_probability_evenly():
    found = drop_probabilities(WORTH, expected_dropped=2, removable=8, temperature=1e4, cap=0.5)
    assert [p for p in found if p] == pytest.approx([0.25] * 8, abs=1e-3)


def test_uncapped_probabilities_follow_the_exponential_of_relative_worth():
    worth = [0.1, 0.2, 0.3, 1.0]
    found = drop_probabilities(worth, expected_dropped=0.9, removable=3, temperature=0.5, cap=0.9)
    assert found[0] / found[1] == pytest.approx(2.718281828 ** (0.1 / 0.5), rel=1e-4)
    assert found[1] / found[2] == pytest.approx(2.718281828 ** (0.1 / 0.5), rel=1e-4)


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.0}, {"cap": 0.0}, {"cap": 1.0}, {"expected_dropped": -1.0}]
)
def test_values_out_of_range_are_refused(changed):
    fitting = {"expected_dropped": 1.0, "removable": 2, "temperature": 0.1, "cap": 0.5}
    with pytest.raises(ValueError, match=f"out of range.*{next(iter(changed))}"):
        drop_probabilities(WORTH, **(fitting | changed))
