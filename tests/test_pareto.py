import random

from hypothesis import given
from hypothesis import strategies as st

from automl.pareto import front_of, hypervolume, objectives, ranking

POINTS = st.lists(st.tuples(st.integers(0, 20), st.integers(-5, 20)), min_size=1, max_size=12)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a != b and a[0] >= b[0] and a[1] >= b[1]


@given(POINTS)
def test_the_front_holds_what_nothing_dominates_each_point_once(
    points: list[tuple[int, int]],
) -> None:
    expected = {p for p in points if not any(dominates(q, p) for q in points)}
    front = front_of(points, points)
    assert set(front) == expected
    assert len(front) == len(expected)


@given(POINTS)
def test_hypervolume_is_the_area_of_the_union_of_boxes(points: list[tuple[int, int]]) -> None:
    covered = {(x, y) for a, b in points for x in range(a) for y in range(b)}
    assert hypervolume(points) == len(covered)


@given(POINTS)
def test_the_ranking_is_front_by_front_and_by_what_each_point_adds(
    points: list[tuple[int, int]],
) -> None:
    order = ranking(points)
    assert sorted(order) == list(range(len(points)))
    left = [points[i] for i in order]
    while left:
        size = len(front_of(left, left))
        front, left = left[:size], left[size:]
        assert set(front) == set(front_of(front + left, front + left))
        added = [hypervolume(front) - hypervolume([q for q in front if q != p]) for p in front]
        assert added == sorted(added, reverse=True)
        worthless = [q for (_, q), a in zip(front, added, strict=True) if not a]
        assert worthless == sorted(worthless, reverse=True)


def test_of_equal_points_the_first_is_on_the_front() -> None:
    assert front_of(["a", "b"], [(1, 1), (1, 1)]) == ["a"]


def test_hypervolume_ignores_the_order_and_what_lies_outside_the_reference() -> None:
    points = [(0.2, 0.9), (0.6, 0.7), (0.5, 0.6), (-0.1, 0.99)]
    shuffled = random.Random(0).sample(points, len(points))
    assert hypervolume(points) == hypervolume(shuffled)
    assert abs(hypervolume(points) - (0.6 * 0.7 + 0.2 * 0.2)) < 1e-12


def test_objectives_are_the_share_of_macs_saved_and_miou() -> None:
    assert objectives(25.0, 0.8, 100.0) == (0.75, 0.8)


def test_quality_counts_from_the_floor() -> None:
    good, bad = objectives(25.0, 0.75, 100.0, floor=0.5), objectives(10.0, 0.25, 100.0, floor=0.5)
    assert (good, bad) == ((0.75, 0.25), (0.9, -0.25))
    assert hypervolume([good, bad]) == 0.75 * 0.25
    assert ranking([bad, good]) == [1, 0]
