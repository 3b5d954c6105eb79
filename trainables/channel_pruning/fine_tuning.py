"""Ordinary training of a network: a slimmed one, or one that learns to be sparse first."""

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional as F

from search_spaces.content_key import content_key
from trainables.channel_pruning.checkpoints import Report, load_checkpoint, save_checkpoint
from trainables.channel_pruning.cosine import cosine
from trainables.channel_pruning.data.batches import Augment, normalised, training_batch
from trainables.channel_pruning.data.image_set import ImageSet
from trainables.channel_pruning.evaluation import recalibrate
from trainables.data.ahead import one_ahead
from trainables.precision import Precision, autocast


class FineTuneSettings(BaseModel):
    """How a network is trained.

    The paper's own figures are not known; these are torch-pruning's for CIFAR, with a cosine.

    Args:
        batch_size: pictures.
        learning_rate: at the start (SGD); half a cosine takes it down to 0.
        momentum: of SGD.
        weight_decay: of all weights.
        recalibration: batches that measure the norms' statistics anew before the first step.
        precision: of the network's forward and backward pass; weights and updates stay fp32.
        checkpoint_every: steps.
        augment: how pictures are varied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    recalibration: int = Field(20, ge=0)
    precision: Precision = "fp32"
    checkpoint_every: int = Field(100, ge=1)
    augment: Augment = Augment()


def fine_tune(
    network: nn.Module,
    images: ImageSet,
    settings: FineTuneSettings,
    *,
    steps: int,
    horizon: int,
    image_size: int,
    seed: int,
    checkpoint: Path | None = None,
    report: Report | None = None,
    regularise: Callable[[int], None] | None = None,
) -> None:
    """Train all weights in place up to `steps`, from a checkpoint where one is given.

    What a step does follows from (seed, step), the weights and the optimiser's state, so a resumed
    training equals an uninterrupted one. The network ends in eval mode.

    Args:
        network: on the pictures as they are: no prompt.
        images: the train split.
        steps: where to stop, counted from the start of the training.
        horizon: where the learning rate reaches its end.
        image_size: side of the pictures, pixels.
        checkpoint: a folder that an earlier call reported.
        report: see `Report`.
        regularise: called with the step between the gradients and the update, which it may change
            the gradients for.

    Raises:
        InputError: the checkpoint is another training's.
        FloatingPointError: the loss is not finite.
    """
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )
    key = _key(network, settings, horizon, seed)
    first = 0
    if checkpoint is not None:
        first = int(load_checkpoint(network, optimiser, key, checkpoint)["step"])
    elif steps:
        recalibrate(network, images, image_size=image_size, batches=settings.recalibration)
    device = next(network.parameters()).device
    batch_of = partial(
        training_batch,
        images,
        seed=seed,
        batch_size=settings.batch_size,
        image_size=image_size,
        augment=settings.augment,
    )
    network.train()
    for step, batch in one_ahead(batch_of, range(first, steps)):
        for group in optimiser.param_groups:
            group["lr"] = cosine(settings.learning_rate, step, horizon)
        with own_random_numbers(seed, step, device), autocast(settings.precision, device):
            logits = network(normalised(batch.pictures.to(device)))
        loss = F.cross_entropy(logits.float(), batch.labels.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if regularise is not None:
            regularise(step)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {step}")
        optimiser.step()
        done = step + 1
        if report is None:
            continue
        metrics = {"step": done, "loss": value}
        if done < steps and done % settings.checkpoint_every:
            report(metrics, None)
            continue
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(network, optimiser, {"key": key, "step": done}, Path(folder))
            report(metrics, Path(folder))
    network.eval()


@contextmanager
def own_random_numbers(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Dropout draws from torch's own generators only: seed them, and put them back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed((seed << 32) + step)
        yield


def _key(network: nn.Module, settings: FineTuneSettings, horizon: int, seed: int) -> str:
    """What a training is; how often it is saved does not matter."""
    return content_key(
        {
            "shapes": {name: list(t.shape) for name, t in network.state_dict().items()},
            "settings": settings.model_dump(mode="json", exclude={"checkpoint_every"}),
            "horizon": horizon,
            "seed": seed,
        }
    )
