"""The sandwich rule (arXiv 1903.05134): largest, smallest, some random subnets, one update."""

import random
from collections.abc import Iterator, Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import distributed as dist
from torch.nn.utils import clip_grad_norm_

from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace
from trainables.data.batches import Batch
from trainables.host_memory import release_freed_memory
from trainables.precision import Precision, autocast
from trainables.sam.decoder import encode_prompts
from trainables.sam.losses import LossKind
from trainables.sam.objectives import (
    Answers,
    Distillation,
    answer,
    answers_loss,
    distillation_loss,
)
from trainables.sam.supernet import Supernet


class StepSettings(BaseModel):
    """How one sandwich step learns.

    Args:
        loss: `sam` (focal and dice 20:1) or `dice`, SuperSAM's.
        distillation: what smaller subnets learn from the largest.
        max_norm: gradients are clipped to it.
        precision: `fp32`, or `bf16` for matrix products; weights and losses stay fp32.
        recompute: whether layers run again in the backward pass, to save memory: at 1024 px, say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: LossKind = "sam"
    distillation: Distillation = Distillation()
    max_norm: float = Field(1.0, gt=0)
    precision: Precision = "fp32"
    recompute: bool = False


def sandwich_subnets(space: SubnetSpace, step: int, *, seed: int, n_random: int) -> list[Subnet]:
    """The distinct subnets of a step, largest first; the same on every process.

    They follow from seed and step alone. A space of one subnet makes an ordinary dense training.
    """
    rng = random.Random(f"{seed}/{step}")
    drawn = [space.largest, space.smallest, *(space.sample(rng) for _ in range(n_random))]
    return list(dict.fromkeys(drawn))


def shared_layers(subnets: Sequence[Subnet], full_heads: Sequence[int]) -> int:
    """How many of the parent's first layers all subnets have alike, at one size or not at all.

    Args:
        subnets: one or more.
        full_heads: the parent's heads in each layer; empty where they are not elastic.
    """
    kept = [subnet.sizes(full_heads) for subnet in subnets]
    depth = 1 + max(max(sizes) for sizes in kept)
    for layer in range(depth):
        if len({sizes.get(layer) for sizes in kept}) > 1:
            return layer
    return depth


def sandwich_step(
    supernet: Supernet,
    batches: Sequence[Batch],
    subnets: Sequence[Subnet],
    optimiser: torch.optim.Optimizer,
    settings: StepSettings,
) -> list[float]:
    """Accumulate the gradients of all subnets on all batches, then update once.

    The first subnet learns from the labels alone. The others learn from the labels and, where
    `settings.distillation` says so, from what the first gives on the same pictures (in-place
    distillation, arXiv 1903.05134).

    Args:
        supernet: image encoder and mask decoder are trained.
        batches: of this process, one after the other; gradients are averaged over them, and once
            over all processes.
        subnets: trained together, the largest first; each weighs the same.
        optimiser: keeps its state from step to step.
        settings: of the loss, the precision and the clipping.

    Returns:
        The loss of each subnet, mean over the batches.

    Raises:
        FloatingPointError: a loss or a gradient is not finite; the weights are left as they were.
    """
    optimiser.zero_grad(set_to_none=True)
    totals = [0.0] * len(subnets)
    share = 1 / (len(batches) * len(subnets))
    for batch in batches:
        for i, loss in enumerate(_backward(supernet, batch, subnets, settings, share)):
            totals[i] += loss / len(batches)
    parameters = list(supernet.trained_parameters())
    _average_gradients(parameters)
    norm = clip_grad_norm_(parameters, settings.max_norm)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the gradients' norm is {norm.item()}")
    optimiser.step()
    return totals


def _backward(
    supernet: Supernet,
    batch: Batch,
    subnets: Sequence[Subnet],
    settings: StepSettings,
    share: float,
) -> Iterator[float]:
    """Add the gradients of each subnet's loss, times `share`; yields the losses.

    The stem, and the layers after it that no two of the subnets have otherwise, run forward once,
    and backward once, when all gradients have come together behind them.
    """
    device = next(supernet.parameters()).device
    pictures = batch.pictures.to(device)
    targets = [target.to(device) for target in batch.targets]
    prompts = [encode_prompts(supernet.sam, asked) for asked in batch.prompts]
    precision = autocast(settings.precision, device)
    encoder = supernet.encoder
    start = shared_layers(subnets, encoder.full_heads)
    with precision:
        shared = encoder.layers(
            encoder.stem(pictures), subnets[0], stop=start, recompute=settings.recompute
        )
    tokens = shared.detach().requires_grad_()
    teacher: Answers | None = None
    for subnet in subnets:
        if teacher is not None and device.type == "cpu":
            # Between the gradients the last pass left gaps that this one could not fill.
            release_freed_memory()
        with precision:
            found = answer(
                supernet, tokens, subnet, prompts, start=start, recompute=settings.recompute
            )
        loss = answers_loss(found, targets, batch.prompts, settings.loss)
        if teacher is not None:
            loss = loss + distillation_loss(found, teacher, settings.distillation)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of {subnet} is {loss.item()}")
        (loss * share).backward()
        if teacher is None and len(subnets) > 1:
            teacher = found.detached()
        yield loss.item()
    shared.backward(tokens.grad)


def _average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """One reduction a step, after all passes; without several processes there is nothing to do."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
