"""The sandwich rule (arXiv 1903.05134): largest, smallest, some random subnets, one update."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.utils import clip_grad_norm_

from search_spaces.subnet import Subnet, SubnetSpace
from trainables.data.batches import Batch
from trainables.sam.losses import decode_masks, encode_prompts, segmentation_loss
from trainables.sam.supernet import Supernet


def sandwich_subnets(space: SubnetSpace, step: int, *, seed: int, n_random: int) -> list[Subnet]:
    """The distinct subnets of a step, largest first; the same on every process.

    They follow from seed and step alone. A space of one subnet makes an ordinary dense training.
    """
    rng = random.Random(f"{seed}/{step}")
    drawn = [space.largest, space.smallest, *(space.sample(rng) for _ in range(n_random))]
    return list(dict.fromkeys(drawn))


def sandwich_step(
    supernet: Supernet,
    batch: Batch,
    subnets: Sequence[Subnet],
    optimiser: torch.optim.Optimizer,
    max_norm: float,
) -> list[float]:
    """Accumulate the gradients of all subnets on one batch, then update once.

    Args:
        supernet: image encoder and mask decoder are trained.
        batch: of this process; gradients are averaged over all processes, once.
        subnets: trained together; each weighs the same.
        optimiser: keeps its state from step to step.
        max_norm: gradients are clipped to this norm.

    Returns:
        The loss of each subnet.

    Raises:
        FloatingPointError: a loss or a gradient is not finite; the weights are left as they were.
    """
    optimiser.zero_grad(set_to_none=True)
    device = next(supernet.parameters()).device
    pictures = batch.pictures.to(device)
    targets = [target.to(device) for target in batch.targets]
    encoded = [encode_prompts(supernet.sam, prompts) for prompts in batch.prompts]
    losses = []
    for subnet in subnets:
        loss = _batch_loss(supernet, supernet(pictures, subnet), batch, targets, encoded)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of {subnet} is {loss.item()}")
        (loss / len(subnets)).backward()
        losses.append(loss.item())
    parameters = list(supernet.trained_parameters())
    _average_gradients(parameters)
    norm = clip_grad_norm_(parameters, max_norm)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the gradients' norm is {norm.item()}")
    optimiser.step()
    return losses


def _batch_loss(
    supernet: Supernet,
    embeddings: Tensor,
    batch: Batch,
    targets: list[Tensor],
    encoded: list[tuple[Tensor, Tensor]],
) -> Tensor:
    losses = []
    for i, prompts in enumerate(batch.prompts):
        logits, ious = decode_masks(supernet.sam, embeddings[i : i + 1], encoded[i])
        losses.append(segmentation_loss(logits, ious, targets[i], prompts))
    return torch.stack(losses).mean()


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
