"""What the stages of the families have in common whose designs are searched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from automl.base_config import ResourcesConfig
from automl.base_workspace import BaseWorkspace
from automl.cluster import concurrent_designs
from automl.files import copy_whole
from automl.ledger import Row, read_rows, write_rows
from automl.progress import StageProgress

LEDGER = "evaluations.parquet"


def room_for_designs(resources: ResourcesConfig, asked: int, share: StageProgress) -> int:
    """How many designs are tried at once; where the cluster has no room for all, it says so."""
    concurrent = concurrent_designs(resources, asked)
    if concurrent < asked:
        share.say(
            f"designs.concurrent: {asked} designs at once asked, the cluster has room for "
            f"{concurrent} at a time"
        )
    return concurrent


def keep_checkpoint(
    workspace: BaseWorkspace, record: dict[str, Any], names: Sequence[str], folder: Path
) -> None:
    """Copy the files of a trial's last checkpoint to where they stay."""
    folder.mkdir(exist_ok=True)
    for name in names:
        copy_whole(workspace.work / record["checkpoint"] / name, folder / name)


def join_ledger(
    workspace: BaseWorkspace, final: str, schema: pa.Schema, unit: str, share: StageProgress
) -> list[Row]:
    """Put the parts of the ledger together, those of all designs and the final one's.

    Args:
        workspace: with its `designs.parquet`.
        final: the ledger's name of the final weights.
        schema: of the ledger.
        unit: the column with the name of what was evaluated, in the singular.
        share: told what could not be evaluated.

    Returns:
        All rows, in the order in which they were evaluated.
    """
    tried = read_rows(workspace.root / "designs.parquet")
    searches = [f"{row['design']}@{row['steps']}" for row in tried]
    rows: list[Row] = []
    for weights in dict.fromkeys([*searches, final]):
        rows += read_rows(workspace.ledger_part(weights))
    write_rows(rows, workspace.root / LEDGER, schema)
    failed = [row for row in rows if row["failure"]]
    if failed:
        share.say(
            f"{len(failed)} {unit}s could not be evaluated, {failed[-1][unit]}: "
            f"{failed[-1]['failure']}; {LEDGER} has them all"
        )
    return rows
