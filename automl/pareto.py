"""Fronts and their hypervolume: MACs saved against quality, both maximised."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def objectives(
    macs: float, quality: float, parent_macs: float, floor: float = 0.0
) -> tuple[float, float]:
    """The two objectives: the share of the parent's MACs that a model saves, and how good it is.

    Args:
        macs: the model's.
        quality: its own.
        parent_macs: the parent's.
        floor: the quality from which on a model is worth something; what is good counts from there.
    """
    return 1.0 - macs / parent_macs, quality - floor


def front_of(items: Sequence[T], points: Sequence[tuple[float, float]]) -> list[T]:
    """The non-dominated items, by falling first objective; of equal points the first.

    Args:
        items: what the points stand for.
        points: two objectives each, both maximised.
    """
    order = sorted(range(len(items)), key=lambda i: (-points[i][0], -points[i][1], i))
    front, best = [], float("-inf")
    for i in order:
        if points[i][1] > best:
            front.append(items[i])
            best = points[i][1]
    return front


def hypervolume(points: Sequence[tuple[float, float]]) -> float:
    """The area that the points dominate, above the reference point (0, 0)."""
    area, height = 0.0, 0.0
    for saved, miou in sorted(points, reverse=True):
        if saved > 0 and miou > height:
            area += saved * (miou - height)
            height = miou
    return area


def growing_hypervolume(points: Iterable[tuple[float, float] | None]) -> list[float]:
    """The hypervolume after each point; None adds nothing."""
    front: list[tuple[float, float]] = []
    values = []
    for point in points:
        if point is not None:
            points_so_far = [*front, point]
            front = front_of(points_so_far, points_so_far)
        values.append(hypervolume(front))
    return values


def ranking(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices from best to worst: front by front, each by what a point alone adds to hypervolume.

    The order by which a multi-objective Parzen estimator tells good from bad (Ozaki and others,
    2022). A front's ends add most; of those that add nothing the one of the best quality is first.
    """
    order: list[int] = []
    left = list(range(len(points)))
    while left:
        front = front_of(left, [points[i] for i in left])
        saved = [*(points[i][0] for i in front), 0.0]
        miou = [0.0, *(max(0.0, points[i][1]) for i in front)]
        added = [
            (saved[place] - saved[place + 1]) * (miou[place + 1] - miou[place])
            for place in range(len(front))
        ]
        worth = [(-added[place], -points[i][1]) for place, i in enumerate(front)]
        order += [front[place] for place in sorted(range(len(front)), key=worth.__getitem__)]
        left = sorted(set(left) - set(front))
    return order
