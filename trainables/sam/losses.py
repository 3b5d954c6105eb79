"""SAM's training losses (arXiv 2304.02643, appendix A): focal and dice 20:1, and the IoU head."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from trainables.data.prompts import Prompts

LossKind = Literal["sam", "dice"]
FOCAL_WEIGHT = 20.0
FOCAL_ALPHA = 0.25
"""Of an object's pixels; those around it weigh 1 − α."""
PIXELS_AT_ONCE = {"cpu": 1 << 18}
"""Of enlarged masks, by the kind of device: on a CPU so many that they stay in its cache."""
MOST_PIXELS = 1 << 24
"""Likewise on any other device."""


def segmentation_loss(
    logits: Tensor, ious: Tensor, targets: Tensor, prompts: Prompts, kind: LossKind = "sam"
) -> Tensor:
    """The loss of one picture's objects, their mean.

    One point is ambiguous: of the three masks the best is trained, as in SAM. A box is not: all
    four masks are trained, so that whichever is asked for or ranked first is a good one. The IoU
    head learns the IoU of every mask.

    Args:
        logits: [N, 4, h, w].
        ious: [N, 4] as predicted.
        targets: [N, S, S] in {0, 1}.
        prompts: what was asked with.
        kind: `sam`, or `dice` alone for the masks, as SuperSAM (arXiv 2501.08504) has it.
    """
    each, reached = mask_losses(logits, targets, kind)
    trained = each if prompts.kind == "box" else each[:, 1:].min(dim=1).values
    return trained.mean() + F.mse_loss(ious, reached)


def mask_losses(logits: Tensor, targets: Tensor, kind: LossKind = "sam") -> tuple[Tensor, Tensor]:
    """The loss of every mask, and its IoU with the truth, both at the targets' size.

    Logits are enlarged to it a few objects at a time, and the gradient of each mask's loss is
    worked out with the loss, so that nothing of that size is held for a backward pass.

    Args:
        logits: [N, M, h, w]; gradients reach them.
        targets: [N, S, S] in {0, 1}.
        kind: focal (arXiv 1708.02002, γ 2, mean over pixels) and dice 20:1, or dice alone, which is
            1 − (2 Σ p t + 1) / (Σ p + Σ t + 1).

    Returns:
        Losses and IoUs, [N, M] each.
    """
    each, ious = _MaskLosses.apply(logits, targets, kind)  # type: ignore[no-untyped-call]
    return each, ious


class _MaskLosses(torch.autograd.Function):
    """`mask_losses`; keeps the losses' gradients at the logits, which are small."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, kind: LossKind) -> tuple[Tensor, Tensor]:
        pixels = logits.shape[1] * targets[0].numel()
        count = max(1, PIXELS_AT_ONCE.get(logits.device.type, MOST_PIXELS) // pixels)
        parts = [
            _measured(some, wanted, kind, ctx.needs_input_grad[0])
            for some, wanted in zip(logits.split(count), targets.split(count), strict=True)
        ]
        each, ious, gradients = (torch.cat(found) for found in zip(*parts, strict=True))
        ctx.save_for_backward(gradients)
        ctx.mark_non_differentiable(ious)
        return each, ious

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, each: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * each[:, :, None, None], None, None


def _measured(
    logits: Tensor, targets: Tensor, kind: LossKind, with_gradients: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a few objects: losses [n, M], IoUs [n, M], and the losses' gradients at the logits."""
    small = logits.detach().requires_grad_(with_gradients)
    with torch.enable_grad():
        large = F.interpolate(small, targets.shape[-2:], mode="bilinear", align_corners=False)
    truth = targets[:, None]
    area = truth.sum((-2, -1))
    inside = large.detach() > 0
    shared, marked = (inside & (truth > 0.5)).sum((-2, -1)), inside.sum((-2, -1))
    ious = shared / (area + marked - shared).clamp(min=1)
    # 1 − p_t: the probability that a pixel is given to the wrong side.
    wrong_side = 1 - 2 * truth
    margin = large.detach() * wrong_side
    missed = margin.sigmoid()
    missed_object = (missed * truth).sum((-2, -1))
    overlap = area - missed_object
    size = overlap + missed.sum((-2, -1)) - missed_object + area + 1
    each = 1 - (2 * overlap + 1) / size
    gradient: Tensor | None = None
    if with_gradients:
        by_overlap, by_size = 2 / size, (2 * overlap + 1) / size.square()
        gradient = missed * (1 - missed)
        gradient *= by_size[..., None, None] - by_overlap[..., None, None] * truth
    if kind == "sam":
        cross_entropy = F.softplus(margin)
        weight = (1 - FOCAL_ALPHA) + (2 * FOCAL_ALPHA - 1) * truth
        weighted = weight * missed.square()
        each = each + FOCAL_WEIGHT * (weighted * cross_entropy).mean((-2, -1))
        if gradient is not None:
            # d/dm of (1 − p_t)² CE, with m the margin: (1 − p_t)² (2 p_t CE + 1 − p_t).
            steep = weighted * (2 * (1 - missed) * cross_entropy + missed)
            gradient += steep * (wrong_side * (FOCAL_WEIGHT / truth[0].numel()))
    if gradient is None:
        return each, ious, torch.empty(0)
    (gradients,) = torch.autograd.grad(large, small, gradient)
    return each, ious, gradients
