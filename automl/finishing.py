"""The end of any study: its page, and what MLflow is told of it."""

import shutil
from collections.abc import Callable, Iterable
from typing import TypeVar

from automl.base_study import UNLOGGED
from automl.base_workspace import BaseWorkspace
from automl.delivery import Delivery
from automl.progress import StageProgress

T = TypeVar("T")


def finish_study(
    workspace: BaseWorkspace,
    write_report: Callable[[], object],
    delivery: Delivery[T],
    calls: Iterable[Callable[[T], None]],
    share: StageProgress,
) -> None:
    """Write the page and log the study to MLflow; then nothing needs `work/` any more.

    Args:
        workspace: of the study.
        write_report: writes `report.html`.
        delivery: to MLflow; it waits for a server that is away.
        calls: all that MLflow is told, from the study's files; again is no harm.
        share: told how far it is.
    """
    root, patience = workspace.root, workspace.config.tracking.patience_s
    (root / UNLOGGED).touch()
    write_report()
    for number, call in enumerate(calls := list(calls), start=1):
        delivery.send(call)
        share.update(number, len(calls), f"MLflow, {number}/{len(calls)}")
    if not delivery.flush(patience):
        share.say(
            f"MLflow did not answer for {patience} s: the study is done, its figures are in "
            f"{root}; the same command logs them once the server is there"
        )
        return
    shutil.rmtree(workspace.work, ignore_errors=True)
    (root / UNLOGGED).unlink()
