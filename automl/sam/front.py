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
    """Hypervolume of a front, against the reference point (0, `search.quality_floor`)."""
    return hypervolume(_points(workspace, front))


def balanced(workspace: Workspace, front: list[Row]) -> Row:
    """The subnet of a front that by itself dominates the largest area: MACs saved times mIoU.

    Where none reaches the floor, the best there is.
    """
    return max(
        front, key=lambda row: (front_hypervolume(workspace, [row]), float(quality(row, "val")))
    )


def hypervolume_history(rows: Iterable[Row], parent_macs: float, floor: float) -> list[float]:
    """The hypervolume after each evaluation; one that was stopped or failed adds nothing.

    Args:
        rows: of the ledger on val, in the order in which they were made.
        parent_macs: the parent's.
        floor: `search.quality_floor`.
    """
    return growing_hypervolume(
        objectives(row["encoder_macs"], quality(row, "val"), parent_macs, floor)
        if evaluated_whole([row])
        else None
        for row in rows
    )


def _points(workspace: Workspace, rows: list[Row]) -> list[tuple[float, float]]:
    parent, floor = workspace.parent_costs["encoder_macs"], workspace.config.search.quality_floor
    return [objectives(row["encoder_macs"], quality(row, "val"), parent, floor) for row in rows]
