"""One model measured on a split: which weights, which pictures, and the figures as rows."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from automl.progress import track
from automl.sam import stages
from automl.sam.measure import load_weights
from automl.sam.workspace import Workspace
from search_spaces.addresses import shown
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.data.pictures import Picture, Pictures
from trainables.data.prompts import PromptKind
from trainables.data.splits import SPLITS
from trainables.data.storage import Location
from trainables.sam.detailed import measure_in_detail
from trainables.sam.standalone import load_subnet
from trainables.sam.supernet import Supernet
from trainables.supernet import WEIGHTS

ALL = "all"
"""The three splits one after the other, for models that saw none of them."""


def check_split(split: str) -> None:
    """Refuse what is no split.

    Raises:
        InputError: it isn't one.
    """
    if split not in (*SPLITS, ALL):
        raise InputError(f"--split: {split!r} is unknown; choose from {', '.join((*SPLITS, ALL))}")


def find_model(
    workspace: Workspace, key: str | None, folder: Path | None
) -> tuple[str, Supernet, Subnet]:
    """The weights that are asked for, and which slices of them.

    Args:
        workspace: of the study.
        key: of a subnet: one that stands alone in `subnets/`, or any that was evaluated on the
            final supernet.
        folder: of a standalone subnet, anywhere.

    Returns:
        What to call it, the supernet, the subnet; the parent where neither is given.

    Raises:
        InputError: there is no such model, or both are given.
    """
    if key and folder:
        raise InputError("--model: give it or --subnet, not both")
    alone = folder or (workspace.subnet_folder(key) if key else None)
    if alone is not None and (folder or alone.is_dir()):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        supernet = Supernet(load_subnet(alone)).to(device).eval()
        return key or str(folder), supernet, supernet.largest
    if key:
        row = stages.find_evaluated(workspace, key)
        if row is None:
            raise InputError(
                f"--subnet: {key} is neither in {workspace.root / 'subnets'} nor a subnet of the "
                f"final supernet in {workspace.root / 'evaluations.parquet'}"
            )
        supernet = load_weights(workspace, workspace.root / "supernet" / WEIGHTS)
        return key, supernet, Subnet.from_dict(row)
    supernet = workspace.parent()
    return "parent", supernet, supernet.largest


def evaluate(
    workspace: Workspace,
    data: Location,
    model: tuple[str, Supernet, Subnet],
    *,
    split: str,
    kinds: Sequence[PromptKind],
    pictures: int | None,
    max_objects: int | None,
    min_area: int | None,
    console: Console,
) -> dict[str, Any]:
    """Measure a model in detail; pictures are read as they are needed.

    Args:
        workspace: of the study.
        data: the folder of the prepared splits.
        model: as `find_model` gives it.
        split: train, val, test, or `all` of them.
        kinds: what is asked with; a row each.
        pictures: only the first so many.
        max_objects: objects prompted in a picture at most; None: the configuration's.
        min_area: pixels that an object needs; None: the configuration's.
        console: where progress is shown.
    """
    config = workspace.config
    name, supernet, subnet = model
    most = max_objects or config.evaluation.max_objects
    least = min_area or config.evaluation.min_area
    parts = [Pictures(data / f"{part}.parquet") for part in (SPLITS if split == ALL else (split,))]
    count = min(sum(len(part) for part in parts), pictures or sys.maxsize)
    measured = measure_in_detail(
        supernet,
        subnet,
        track(itertools.islice(_chained(parts), count), count, f"{name} on {split}", console),
        kinds,
        seed=config.seed,
        max_objects=most,
        min_area=least,
        batch_size=config.evaluation.batch_size,
    )
    costs = supernet.costs.costs(subnet)
    return {
        "model": name,
        "parent": config.model,
        "data": shown(config.data),
        "split": split,
        "image_size": supernet.encoder.image_size,
        "encoder_params": costs.encoder_params,
        "encoder_macs": costs.encoder_macs,
        "pictures": measured.pictures,
        "max_objects": most,
        "min_area": least,
        "rows": measured.rows,
    }


def _chained(parts: Sequence[Pictures]) -> Iterator[Picture]:
    for part in parts:
        for index in range(len(part)):
            yield part[index]
