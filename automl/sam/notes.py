"""What stands on the pages of MLflow's runs, as Markdown."""

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from automl.ledger import Row
from automl.sam.ledger import has_fewer_heads

GLOSSARY = """\
- `best_hypervolume_so_far`: of any supernet of the study, over the subnets evaluated; its curve is
  under *Model metrics*
- `hypervolume`, `front_size`: of the front; the hypervolume is the area that it dominates in the
  plane of MACs saved (a share of the parent's) and mIoU on val
- `stopped`, `pictures_seen`: shares of the last search's evaluations that ended early, and of
  their pictures that were looked at
- `rank_correlation_N`: of the mIoU after the N-th part of the pictures with that on all
"""


def study_note(run_id: str, pictures: Sequence[str], table: pd.DataFrame) -> str:
    """What stands on the page of a study's run, as Markdown: its front, drawn and as a table.

    Args:
        run_id: of the study.
        pictures: its artifacts.
        table: of the front.
    """
    lines = [table.columns, [], *table.itertuples(index=False)]
    rows = [f"| {' | '.join(_cell(value) for value in line)} |" for line in lines]
    rows[1] = "|---" * len(table.columns) + "|"
    images = [f"![{name}](get-artifact?path={name}&run_uuid={run_id})\n" for name in pictures]
    return "\n".join(
        [
            f"The front: {len(table) - 1} subnets beside their parent. *Show more* has it as a "
            "table and as a picture, with the hypervolume over the subnets evaluated.",
            "",
            *rows,
            "",
            *images,
            "",
            GLOSSARY,
        ]
    )


def subnet_note(row: Row) -> str:
    """What stands on the page of a subnet's run, as Markdown: its architecture."""
    shape = {"layer of the parent": row["layers"], "MLP neurons": row["mlp_widths"]}
    if has_fewer_heads([row]):
        shape["heads"] = row["heads"]
    lines = [
        f"| {' | '.join(_cell(value) for value in (name, *values))} |"
        for name, values in shape.items()
    ]
    rule = "|".join(["---"] * (len(row["layers"]) + 1))
    return "\n".join([f"Subnet `{row['subnet']}`", "", lines[0], f"|{rule}|", *lines[1:]])


def _cell(value: Any) -> str:
    """A cell of a table in Markdown; MLflow's pages leave no room beside it."""
    if isinstance(value, float):
        value = f"{value:g}"
    return f"{escape(str(value)).replace('|', '&#124;')}&emsp;"
