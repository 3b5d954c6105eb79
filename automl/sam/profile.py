"""What can be known before any training and without data: sizes, speed, memory, what is in reach.

Nothing is written.
"""

import math
from dataclasses import asdict
from typing import Any

from rich.console import Console

from automl.progress import track
from automl.sam.reach import design_count, equal_worth, reachable, within
from automl.sam.workspace import Workspace
from search_spaces.constraints import Constraint
from trainables.footprint import measure_footprint
from trainables.sam.models import load_sam

NAMES = ("largest", "middle", "smallest")


def profile(workspace: Workspace, console: Console) -> dict[str, Any]:
    """Profile the design that is tried first.

    Layer worth is taken from `importance.parquet` where it is there; else all layers are taken to
    be worth the same, and the ranges hold whatever they are worth. A checkpoint is only checked:
    no figure depends on the weights.

    Args:
        workspace: of the study.
        console: where progress is shown.

    Returns:
        A JSON object: `subnets` has a row for each of `NAMES` (the largest is the parent itself),
        `full_heads` the heads of each layer of the parent where a subnet can have fewer,
        `reachable` for each cost the range over all designs on offer, with the floor and the
        ceiling that are asked for, None where there is none, and whether both are in reach.

    Raises:
        InputError: a constraint is no bound, or the checkpoint can't be used.
    """
    config = workspace.config
    constraints = {constraint.cost: constraint for constraint in workspace.constraints}
    if config.checkpoint is not None:
        load_sam(config.model, config.checkpoint, config.image_size)
    measured = (workspace.root / "importance.parquet").is_file()
    worth = workspace.worth() if measured else None
    offered = config.designs.space
    design = offered.design(offered.first_points()[0])
    space = workspace.draw_up(design, worth or equal_worth(workspace))
    found = space.ladder(len(NAMES))
    names = NAMES if len(found) == len(NAMES) else ("largest", "smallest")[: len(found)]
    ladder = dict(zip(names, found, strict=True))
    parent = workspace.parent_costs
    subnets = []
    for name, subnet in track(ladder.items(), len(ladder), "profile", console):
        costs = workspace.costs(subnet)
        footprint = measure_footprint(config.model, workspace.encoder.image_size, subnet)
        subnets.append(
            {
                "name": name,
                **subnet.to_dict(),
                **costs,
                "smaller_by": 1 - costs["encoder_params"] / parent["encoder_params"],
                **asdict(footprint),
            }
        )
    return {
        "model": config.model,
        "image_size": workspace.encoder.image_size,
        "design": design.key,
        "designs": design_count(workspace),
        "space_size": space.size,
        "full_heads": list(workspace.encoder.full_heads),
        "worth": "unneeded" if offered.probabilities else "measured" if measured else "unknown",
        "subnets": subnets,
        "reachable": {
            cost: {
                "least": bounds.least,
                "most": bounds.most,
                "floor": asked.floor or None,
                "ceiling": asked.ceiling if asked.ceiling < math.inf else None,
                "can_be_kept": within(bounds, asked),
            }
            for cost, bounds in reachable(workspace, worth).items()
            for asked in [constraints.get(cost, Constraint(cost))]
        },
    }
