"""Training prompt, encoder and hypernetwork together, with the network frozen."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional as F
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from search_spaces.content_key import content_key
from trainables.channel_pruning.budgets import (
    Budget,
    Selection,
    channel_prices,
    check_budget,
    select,
)
from trainables.channel_pruning.checkpoints import Report, load_checkpoint, save_checkpoint
from trainables.channel_pruning.cosine import cosine
from trainables.channel_pruning.data.batches import (
    Augment,
    LabelledBatch,
    normalised,
    training_batch,
)
from trainables.channel_pruning.data.image_set import ImageSet
from trainables.channel_pruning.hypernetwork import HyperNetwork
from trainables.channel_pruning.masked import MaskedNetwork, Masking, straight_through
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.scoring import ALL_KEPT, Scorer, find_channels
from trainables.data.ahead import one_ahead
from trainables.precision import Precision, autocast

CURRENT = "current"
"""In a checkpoint, the weights of the last step, beside the averaged ones."""


class MaskSettings(BaseModel):
    """How masks are trained. The paper's own figures are not known; these are ours.

    Updates are those of SGD with the gradient scaled to length 1, so that channels keep their
    proportions: an optimiser that scales each weight by its own gradients moves the score of a
    channel that hardly matters as far as any other's.

    Args:
        batch_size: pictures.
        learning_rate: of encoder and hypernetwork at the start; half a cosine takes it down to 0.
        prompt_learning_rate: likewise of the prompt's pixels, which lie in [0, 1].
        momentum: of updates.
        averaged: part of the training over which weights are averaged, exponentially; the channels
            that stay are those of the averaged weights. Channels near the threshold come and go
            from step to step: on average those stay that are worth it.
        start_share: of the network that stays at the first step.
        ramp: part of the training after which the budget's own share is reached.
        ramp_shape: how it gets there: evenly, or fast at first (arXiv 1710.01878).
        masking: which sides of weights are masked.
        batch_statistics: whether norms use each batch's own statistics.
        precision: of the network's forward and backward pass; the hypernetwork's are fp32.
        checkpoint_every: steps.
        augment: how pictures are varied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(0.1, gt=0)
    prompt_learning_rate: float = Field(0.01, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    averaged: float = Field(0.2, ge=0, le=1)
    start_share: float = Field(0.95, gt=0, le=1)
    ramp: float = Field(0.6, gt=0, le=1)
    ramp_shape: Literal["linear", "cubic"] = "cubic"
    masking: Masking = "inputs"
    batch_statistics: bool = True
    precision: Precision = "fp32"
    checkpoint_every: int = Field(100, ge=1)
    augment: Augment = Augment()


def share_at(step: int, horizon: int, share: float, settings: MaskSettings) -> float:
    """What share stays at a step: from nearly all down to the one wanted.

    share(t) = b + (b_0 − b) (1 − t / (ramp · horizon))^p, with p 1 or 3, and b afterwards.
    """
    left = 1 - min(1.0, (step + 1) / max(1.0, settings.ramp * horizon))
    power = 3 if settings.ramp_shape == "cubic" else 1
    start = max(settings.start_share, share)
    return share + (start - share) * left**power


def make_optimiser(hypernetwork: HyperNetwork, settings: MaskSettings) -> torch.optim.SGD:
    """SGD over prompt, encoder and hypernetwork."""
    prompt = hypernetwork.prompt.pattern
    groups: list[dict[str, Any]] = [
        {"params": [p for p in hypernetwork.parameters() if p is not prompt]},
        {"params": [prompt], "lr": settings.prompt_learning_rate},
    ]
    optimiser = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    for group in optimiser.param_groups:
        group["peak"] = group["lr"]
    return optimiser


def mask_step(
    scorer: Scorer,
    masked: MaskedNetwork,
    prunable: Prunable,
    batch: LabelledBatch,
    optimiser: torch.optim.Optimizer,
    budget: Budget,
    thresholds: Sequence[float],
    prices: Sequence[float],
    settings: MaskSettings,
) -> tuple[float, Selection]:
    """One update of prompt, encoder and hypernetwork.

    A score's gradient is divided by what its channel costs: within a budget it is the gain for the
    price that counts.

    Returns:
        The loss, and the masks that it was measured with.

    Raises:
        FloatingPointError: a loss or a gradient is not finite; no weight has changed.
    """
    hypernetwork = scorer.hypernetwork
    scores = scorer(thresholds)
    selection = select(scores, prunable.table, budget)
    temperature = hypernetwork.settings.temperature
    masks = [
        straight_through(score, mask, threshold, temperature, price)
        for score, mask, threshold, price in zip(
            scores,
            selection.masks,
            selection.thresholds,
            prices,
            strict=True,
        )
    ]
    pictures = normalised(hypernetwork.prompt(batch.pictures))
    with autocast(settings.precision, pictures.device):
        logits = masked(pictures, masks, batch_statistics=settings.batch_statistics)
    loss = F.cross_entropy(logits.float(), batch.labels)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    update(hypernetwork, optimiser)
    return loss.item(), selection


def update(hypernetwork: HyperNetwork, optimiser: torch.optim.Optimizer) -> None:
    """Step along the gradient, scaled to length 1.

    Raises:
        FloatingPointError: it is not finite; no weight has changed.
    """
    gradients = [p.grad for p in hypernetwork.parameters() if p.grad is not None]
    norm = get_total_norm(gradients)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the gradients' norm is {norm.item()}")
    torch._foreach_div_(gradients, norm.clamp(min=1e-12))
    optimiser.step()


def averaged(hypernetwork: HyperNetwork, horizon: int, settings: MaskSettings) -> AveragedModel:
    """Takes the hypernetwork's weights in, and holds what `settings.averaged` says of them."""
    # The first update copies; what an average over no more than a step is worth is the last one.
    decay = max(0.0, 1 - 1 / (settings.averaged * horizon)) if settings.averaged else 0.0
    return AveragedModel(hypernetwork, multi_avg_fn=get_ema_multi_avg_fn(decay))


def train_masks(
    hypernetwork: HyperNetwork,
    prunable: Prunable,
    images: ImageSet,
    budget: Budget,
    settings: MaskSettings,
    *,
    steps: int,
    horizon: int,
    seed: int,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> Selection:
    """Train in place up to `steps`, from a checkpoint where one is given.

    What a step does follows from (seed, step), the weights, the optimiser's state and the last
    thresholds, so a resumed training equals an uninterrupted one. The network is left as it is.

    Args:
        hypernetwork: with the prompt and its encoder; gets the averaged weights.
        prunable: the frozen network.
        images: the train split.
        budget: what may stay in the end.
        steps: where to stop, counted from the start of the training.
        horizon: steps of the whole training, of which `settings.ramp` is a part.
        checkpoint: a folder that an earlier call reported.
        report: see `Report`.

    Returns:
        The masks that the trained hypernetwork gives at the budget.

    Raises:
        InputError: the budget is out of reach, or hypernetwork or checkpoint are another's.
    """
    check_budget(prunable.table, budget)
    prices = channel_prices(prunable.table, budget)
    scorer = Scorer(hypernetwork, prunable)
    masked = MaskedNetwork(prunable.network, prunable.groups, settings.masking)
    optimiser = make_optimiser(hypernetwork, settings)
    key = _key(hypernetwork, prunable, budget, settings, horizon, seed)
    average = averaged(hypernetwork, horizon, settings)
    first, thresholds = 0, [ALL_KEPT] * len(prunable.groups)
    if checkpoint is not None:
        others = {CURRENT: hypernetwork}
        state = load_checkpoint(average.module, optimiser, key, checkpoint, others)
        first, thresholds = state["step"], state["thresholds"]
        average.n_averaged.fill_(first)
    device = hypernetwork.prompt.pattern.device
    batch_of = partial(
        training_batch,
        images,
        seed=seed,
        batch_size=settings.batch_size,
        image_size=prunable.image_size,
        augment=settings.augment,
    )
    for step, batch in one_ahead(batch_of, range(first, steps)):
        for group in optimiser.param_groups:
            group["lr"] = cosine(group["peak"], step, horizon)
        share = share_at(step, horizon, budget.share, settings)
        now = budget.model_copy(update={"share": share})
        loss, selection = mask_step(
            scorer,
            masked,
            prunable,
            batch.to(device),
            optimiser,
            now,
            thresholds,
            prices,
            settings,
        )
        average.update_parameters(hypernetwork)
        thresholds = list(selection.thresholds)
        done = step + 1
        if report is None:
            continue
        metrics = {"step": done, "loss": loss, "share": now.share}
        if done < steps and done % settings.checkpoint_every:
            report(metrics, None)
            continue
        with tempfile.TemporaryDirectory() as folder:
            state = {"key": key, "step": done, "thresholds": thresholds}
            others = {CURRENT: hypernetwork}
            save_checkpoint(average.module, optimiser, state, Path(folder), others)
            report(metrics, Path(folder))
    hypernetwork.load_state_dict(average.module.state_dict())
    return find_channels(hypernetwork, prunable, budget)


def _key(
    hypernetwork: HyperNetwork,
    prunable: Prunable,
    budget: Budget,
    settings: MaskSettings,
    horizon: int,
    seed: int,
) -> str:
    """What a training is; how often it is saved does not matter."""
    return content_key(
        {
            "hypernetwork": hypernetwork.settings.model_dump(mode="json"),
            "groups": [group.to_dict() for group in prunable.groups],
            "budget": budget.model_dump(mode="json"),
            "settings": settings.model_dump(mode="json", exclude={"checkpoint_every"}),
            "horizon": horizon,
            "seed": seed,
        }
    )
