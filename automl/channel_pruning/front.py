"""Fronts of networks: MACs saved against accuracy on val, both maximised."""

from collections.abc import Sequence

from automl.ledger import Row, evaluated_whole
from automl.pareto import front_of, growing_hypervolume, hypervolume, objectives


def point(row: Row, parent_macs: int) -> tuple[float, float]:
    """A network's two objectives."""
    return objectives(row["macs"], row["accuracy_val"], parent_macs)


def front_rows(rows: Sequence[Row], parent_macs: int) -> list[Row]:
    """The non-dominated of those that could be evaluated, smallest first."""
    sound = evaluated_whole(rows)
    return front_of(sound, [point(row, parent_macs) for row in sound])


def front_hypervolume(front: Sequence[Row], parent_macs: int) -> float:
    """Hypervolume of a front, against the reference point (0, 0)."""
    return hypervolume([point(row, parent_macs) for row in front])


def hypervolume_history(rows: Sequence[Row], parent_macs: int) -> list[float]:
    """The best hypervolume of any pruner after each evaluation; one that failed adds nothing.

    Args:
        rows: of searches, in the order in which they were made.
        parent_macs: the unpruned network's.
    """
    values: list[float] = []
    for weights in dict.fromkeys(row["weights"] for row in rows):
        before = values[-1] if values else 0.0
        own = growing_hypervolume(
            point(row, parent_macs) if evaluated_whole([row]) else None
            for row in rows
            if row["weights"] == weights
        )
        values += [max(before, value) for value in own]
    return values
