"""Training a supernet by the sandwich rule, with checkpoints that it resumes from to the bit."""

import json
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from search_spaces.errors import InputError
from search_spaces.subnet_space import SubnetSpace
from trainables.checksums import damaged_files, write_checksums
from trainables.data.ahead import one_ahead
from trainables.data.batches import AugmentSettings, training_batch
from trainables.data.pictures import Pictures
from trainables.data.prompts import PromptKind
from trainables.json_text import parse_table
from trainables.sam.models import read_state_dict, save_state_dict
from trainables.sam.sandwich import StepSettings, sandwich_step, sandwich_subnets
from trainables.sam.supernet import Supernet

WEIGHTS, OPTIMISER, STATE = "supernet.safetensors", "optimiser.pt", "state.json"


class TrainingSettings(StepSettings):
    """How a supernet is trained.

    Args:
        batch_size: pictures of all processes together.
        accumulation: parts that a process takes its pictures in, one after the other, to save
            memory; the gradient is the same.
        learning_rate: at its peak.
        weight_decay: of matrices; biases, norms and positions have none.
        warmup: steps of linear growth before the cosine.
        n_random: random subnets a step, beside largest and smallest.
        max_objects: objects prompted in a training picture at most.
        checkpoint_every: steps.
        augment: how pictures are varied.
    """

    batch_size: int = Field(4, ge=1)
    accumulation: int = Field(1, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: int = Field(5, ge=0)
    n_random: int = Field(1, ge=0)
    max_objects: int = Field(8, ge=1)
    checkpoint_every: int = Field(20, ge=1)
    augment: AugmentSettings = AugmentSettings()


def learning_rate_at(step: int, horizon: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak at `horizon` steps."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / (settings.warmup + 1)
    done = (step - settings.warmup) / max(1, horizon - settings.warmup)
    return settings.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1, done))) / 2)


def make_optimiser(supernet: Supernet, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW over image encoder and mask decoder; the prompt encoder is frozen."""
    supernet.sam.prompt_encoder.requires_grad_(False)
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, p in supernet.sam.named_parameters():
        if p.requires_grad:
            is_matrix = p.ndim >= 2 and "pos" not in name and "token" not in name
            (decayed if is_matrix else plain).append(p)
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def train_supernet(
    supernet: Supernet,
    space: SubnetSpace,
    pictures: Pictures,
    settings: TrainingSettings,
    *,
    steps: int,
    horizon: int,
    prompts: PromptKind,
    seed: int,
    checkpoint: Path | None,
    report: Callable[[dict[str, Any], Path | None], None],
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Train in place up to `steps`, from a checkpoint where one is given.

    What a step does follows from (seed, step), the weights and the optimiser's state, so a resumed
    training equals an uninterrupted one.

    Args:
        supernet: the prioritised parent, where training starts.
        space: which subnets are drawn.
        pictures: the train split.
        steps: where to stop, counted from the start of the training.
        horizon: where the learning rate reaches its end; at least `steps`.
        checkpoint: a folder that `save_checkpoint` wrote.
        report: called after each step with the metrics, and with a folder to keep where a
            checkpoint is due; only process 0 writes checkpoints.
        rank: this process, of `world_size`.

    Raises:
        InputError: the checkpoint belongs to another space.
        FloatingPointError: a loss is not finite.
    """
    optimiser = make_optimiser(supernet, settings)
    first = 0
    if checkpoint is not None:
        first = load_checkpoint(supernet, optimiser, space, checkpoint)
    size = supernet.sam.image_encoder.img_size
    batch_of = partial(
        training_batch,
        pictures,
        seed=seed,
        batch_size=settings.batch_size,
        image_size=size,
        max_objects=settings.max_objects,
        prompts=prompts,
        augment=settings.augment,
        rank=rank,
        world_size=world_size,
    )
    supernet.train()
    for step, batch in one_ahead(batch_of, range(first, steps)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, horizon, settings)
        subnets = sandwich_subnets(space, step, seed=seed, n_random=settings.n_random)
        losses = sandwich_step(
            supernet, batch.parts(settings.accumulation), subnets, optimiser, settings
        )
        done = step + 1
        metrics: dict[str, Any] = {"step": done, "loss": sum(losses) / len(losses)}
        metrics["loss_largest"] = losses[0]
        if done < steps and done % settings.checkpoint_every:
            report(metrics, None)
            continue
        with tempfile.TemporaryDirectory() as folder:
            if rank == 0:
                save_checkpoint(supernet, optimiser, space, done, Path(folder))
            report(metrics, Path(folder) if rank == 0 else None)
    supernet.eval()


def save_checkpoint(
    supernet: Supernet,
    optimiser: torch.optim.Optimizer,
    space: SubnetSpace,
    step: int,
    folder: Path,
) -> None:
    """Write weights, optimiser, space, step and checksums into a folder."""
    save_state_dict(supernet.sam.state_dict(), folder / WEIGHTS, torch.float32)
    with (folder / OPTIMISER).open("wb") as file:  # torch itself does not say that a disk is full
        torch.save(optimiser.state_dict(), file)
    state = {"step": step, "space": space.to_dict(), "space_key": space.key}
    (folder / STATE).write_text(json.dumps(state, indent=2) + "\n")
    write_checksums(folder)


def sound_checkpoint(newest: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is not damaged; None where none is left.

    Args:
        newest: a folder; others stand beside it. Of them that of most steps comes first: the time
            in their names is of a clock, which may have jumped.
        say: told of each one that is damaged.
    """
    others = (f for f in newest.parent.glob("checkpoint_*") if f.is_dir() and f != newest)
    for folder in (newest, *sorted(others, key=_steps, reverse=True)):
        damaged = damaged_files(folder)
        if not damaged:
            return folder
        say(f"checkpoint {folder} is damaged ({', '.join(damaged)}): the one before it is taken")
    return None


def _steps(checkpoint: Path) -> int:
    try:
        return int(parse_table((checkpoint / STATE).read_bytes())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def load_checkpoint(
    supernet: Supernet, optimiser: torch.optim.Optimizer, space: SubnetSpace, folder: Path
) -> int:
    """Put a checkpoint's weights and optimiser state in place; returns its step.

    Raises:
        InputError: the checkpoint belongs to another space.
    """
    try:
        state = parse_table((folder / STATE).read_bytes())
        key, step = state["space_key"], int(state["step"])
    except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        raise InputError(f"{folder / STATE} is damaged: {error!r}") from error
    if key != space.key:
        raise InputError(
            f"{folder}: the checkpoint was trained for space {key}, "
            f"not {space.key}; train anew in another output directory"
        )
    supernet.sam.load_state_dict(read_state_dict(folder / WEIGHTS))
    optimiser.load_state_dict(torch.load(folder / OPTIMISER, weights_only=True))
    return step
