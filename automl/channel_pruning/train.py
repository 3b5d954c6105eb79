"""Ray Train around the two trainings: of a design's pruner, and of a slimmed network."""

from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import get_device

from automl.base_train import last_checkpoint, report_step, run_training
from automl.channel_pruning.workspace import PruningWorkspace, kept_of, weights_key
from automl.ledger import Row
from search_spaces.pruner_design import PrunerDesign
from trainables.channel_pruning.budgets import Budget
from trainables.channel_pruning.fine_tuning import fine_tune
from trainables.channel_pruning.mask_training import train_masks


def train_masks_per_worker(config: dict[str, Any]) -> None:
    """What the worker runs: a pruner's training up to `config["steps"]`, with Ray's checkpoints."""
    workspace: PruningWorkspace = config["workspace"]
    design: PrunerDesign = config["design"]
    study, prunable = workspace.config, workspace.prunable()
    train_masks(
        workspace.hypernetwork(design, prunable).to(get_device()),
        prunable,
        workspace.images("train"),
        Budget(share=study.budgets.smallest, allocation=design.allocation),
        study.masks,
        steps=config["steps"],
        horizon=study.final.steps,
        seed=study.seed,
        checkpoint=last_checkpoint(workspace.root, f"design {design.key}"),
        report=partial(report_step, config["constants"]),
    )


def train_pruner(
    workspace: PruningWorkspace,
    design: PrunerDesign,
    steps: int,
    callbacks: list[ray.train.UserCallback],
    constants: dict[str, Any],
) -> Path:
    """Train prompt and hypernetwork of a design up to `steps`, from the last checkpoint.

    The network is frozen; the share that stays falls to the smallest budget on offer.

    Args:
        workspace: of the study.
        design: what is trained.
        steps: counted from the start of the design's training.
        callbacks: of Ray Train.
        constants: reported along with each step's metrics.

    Returns:
        The folder of the last checkpoint.

    Raises:
        FloatingPointError: a gradient was not finite, in each of several attempts.
        InputError: what a worker can't use, or the cluster has no room.
    """
    return run_training(
        workspace,
        train_masks_per_worker,
        {"workspace": workspace, "design": design, "steps": steps, "constants": constants},
        name=f"design-{design.key}",
        what=f"design {weights_key(design, steps)}",
        callbacks=callbacks,
    )


def tune_per_worker(config: dict[str, Any]) -> None:
    """What the worker runs: the fine-tuning of a slimmed network, with Ray's checkpoints."""
    workspace: PruningWorkspace = config["workspace"]
    row: Row = config["row"]
    study, prunable = workspace.config, workspace.prunable()
    steps = study.final.tuning_steps
    fine_tune(
        prunable.slimmed(kept_of(row, prunable)).to(get_device()),
        workspace.images("train"),
        study.tuning,
        steps=steps,
        horizon=steps,
        image_size=study.image_size,
        seed=study.seed,
        checkpoint=last_checkpoint(workspace.root, f"network {row['network']}"),
        report=partial(report_step, {}),
    )


def tune_network(
    workspace: PruningWorkspace, row: Row, callbacks: list[ray.train.UserCallback]
) -> Path:
    """Fine-tune a network of the front whole, from its last checkpoint where there is one.

    Args:
        workspace: of the study.
        row: of the ledger; it says which channels stay.
        callbacks: of Ray Train.

    Returns:
        The folder of the last checkpoint.

    Raises:
        FloatingPointError: a loss was not finite, in each of several attempts.
        InputError: what a worker can't use, or the cluster has no room.
    """
    return run_training(
        workspace,
        tune_per_worker,
        {"workspace": workspace, "row": row},
        name=f"network-{row['network']}",
        what=f"network {row['network']}",
        callbacks=callbacks,
    )
