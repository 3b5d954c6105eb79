"""Ray Train around the sandwich training of one design's supernet."""

from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import get_device

from automl.base_train import last_checkpoint, report_step, run_training
from automl.sam.workspace import Workspace
from search_spaces.design import Design
from trainables.supernet import train_supernet


def train_loop_per_worker(config: dict[str, Any]) -> None:
    """What each Train worker runs: the training up to `config["steps"]`, with Ray's checkpoints."""
    workspace: Workspace = config["workspace"]
    design: Design = config["design"]
    study = workspace.config
    context = ray.train.get_context()
    train_supernet(
        workspace.prioritised(design.metric).to(get_device()),
        workspace.space(design),
        workspace.pictures("train"),
        study.training,
        steps=config["steps"],
        horizon=study.final.steps,
        prompts=study.prompts,
        seed=study.seed,
        checkpoint=last_checkpoint(workspace.root, f"design {design.key}"),
        report=partial(report_step, config["constants"]),
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
    )


def train_design(
    workspace: Workspace,
    design: Design,
    steps: int,
    callbacks: list[ray.train.UserCallback],
    constants: dict[str, Any],
) -> Path:
    """Train a design's supernet up to `steps`, from its last checkpoint where there is one.

    Args:
        workspace: of the study.
        design: what space is trained.
        steps: counted from the start of the design's training.
        callbacks: of Ray Train.
        constants: reported along with each step's metrics.

    Returns:
        The folder of the last checkpoint.

    Raises:
        FloatingPointError: a loss or a gradient was not finite, in each of several attempts.
        InputError: what a worker can't use, or the cluster has no room.
    """
    return run_training(
        workspace,
        train_loop_per_worker,
        {"workspace": workspace, "design": design, "steps": steps, "constants": constants},
        name=design.key,
        what=f"design {design.key}",
        callbacks=callbacks,
    )
