"""The front of subnets: MACs saved against quality."""

from collections.abc import Iterable

from automl.ledger import Row, evaluated_whole
from automl.pareto import front_of, growing_hypervolume, hypervolume, objectives
from automl.sam.workspace import Workspace
from trainables.sam.objective import quality


def front_rows(workspace: Workspace, rows: list[Row]) -> list[Row]:
    """The non-dominated of those that were evaluated whole, smallest subnet first."""
    whole = evaluated_whole(rows)
    return front_of(whole, _points(workspace, whole))


def front_hypervolume(workspace: Workspace, front: list[Row]) -> float:
    """Hypervolume of a front, against the reference point (0, 0)."""
    return hypervolume(_points(workspace, front))


def balanced(workspace: Workspace, front: list[Row]) -> Row:
    """The subnet of a front that by itself dominates the largest area: MACs saved times mIoU."""
    return max(front, key=lambda row: front_hypervolume(workspace, [row]))


def hypervolume_history(rows: Iterable[Row], parent_macs: float) -> list[float]:
    """The hypervolume after each evaluation; one that was stopped or failed adds nothing.

    Args:
        rows: of the ledger on val, in the order in which they were made.
        parent_macs: the parent's.
    """
    return growing_hypervolume(
        objectives(row["encoder_macs"], quality(row, "val"), parent_macs)
        if evaluated_whole([row])
        else None
        for row in rows
    )


def _points(workspace: Workspace, rows: list[Row]) -> list[tuple[float, float]]:
    parent = workspace.parent_costs["encoder_macs"]
    return [objectives(row["encoder_macs"], quality(row, "val"), parent) for row in rows]
