import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.constraints import Constraint, parse_constraints
from search_spaces.errors import InputError

PARENT = {"params": 93_000_000.0, "encoder_params": 89_000_000.0, "encoder_macs": 486e9}


def test_counts_are_taken_as_they_are():
    wanted = {"params": 3_000_000, "encoder_macs": "2e9"}
    assert parse_constraints(wanted, PARENT) == [
        Constraint("params", 3_000_000.0),
        Constraint("encoder_macs", 2e9),
    ]


@given(st.sampled_from(sorted(PARENT)), st.integers(1, 100))
def test_shares_are_of_the_parents_own_cost(cost, percent):
    (constraint,) = parse_constraints({cost: f" {percent}% "}, PARENT)
    assert constraint.cost == cost
    assert constraint.ceiling == pytest.approx(PARENT[cost] * percent / 100)


def test_no_constraints_are_none():
    assert parse_constraints({}, PARENT) == []


def test_excess_is_the_share_above_the_ceiling():
    constraint = Constraint("params", 200.0)
    assert constraint.excess({"params": 250.0}) == pytest.approx(0.25)
    assert constraint.excess({"params": 200.0}) == 0.0
    assert constraint.excess({"params": 10.0}) == 0.0


@pytest.mark.parametrize(
    ("text", "floor", "ceiling"),
    [
        (">=30%", 60, math.inf),
        ("<=50%", 0, 100),
        ("30%..50%", 60, 100),
        (" 30% .. 150 ", 60, 150),
        (">= 70", 70, math.inf),
        ("<= 5e1", 0, 50),
        ("100..50%", 100, 100),
    ],
)
def test_a_bound_is_a_ceiling_a_floor_or_both(text, floor, ceiling):
    (constraint,) = parse_constraints({"params": text}, {"params": 200.0})
    assert (constraint.floor, constraint.ceiling) == (floor, ceiling)


def test_excess_is_also_the_share_of_the_floor_that_is_lacking():
    both = Constraint("params", 200.0, 100.0)
    found = [both.excess({"params": cost}) for cost in (50.0, 100.0, 150.0, 200.0, 300.0)]
    assert found == [0.5, 0.0, 0.0, 0.0, 0.5]
    assert [Constraint("params", floor=100.0).excess({"params": c}) for c in (75, 1e9)] == [0.25, 0]


def test_a_floor_above_its_ceiling_is_one_line_with_both():
    with pytest.raises(InputError, match=r"constraints\.params: '50%\.\.30%' .*100 above .*60"):
        parse_constraints({"params": "50%..30%"}, {"params": 200.0})


def test_an_unknown_cost_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"constraints\.latency_ms: unknown") as raised:
        parse_constraints({"latency_ms": 3}, PARENT)
    assert all(cost in str(raised.value) for cost in PARENT)


@pytest.mark.parametrize(
    "value",
    [
        *("half", "", "%", "-5%", 0, -3, "0%", "nan", "inf", True),
        *(">=", ">=x", "<=-1", "..", "30%..", "..30%", "1..2..3", "0..5", ">=1..2", ">30%", "=3"),
    ],
)
def test_a_value_that_is_no_bound_is_named(value):
    with pytest.raises(InputError, match=r"constraints\.params: .* is no bound") as raised:
        parse_constraints({"params": value}, PARENT)
    assert repr(value) in str(raised.value)
