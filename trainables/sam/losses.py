"""SAM's training losses (arXiv 2304.02643, appendix A): focal and dice 20:1, and the IoU head."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.prompts import Prompts
from trainables.sam.segment_anything_import import Sam

LossKind = Literal["sam", "dice"]
FOCAL_WEIGHT = 20.0


def focal(logits: Tensor, targets: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Focal loss (arXiv 1708.02002), mean over pixels: [..., H, W] to [...]."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p = logits.sigmoid()
    missed = p + targets - 2 * p * targets  # 1 − p_t
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * missed**gamma * cross_entropy).mean((-2, -1))


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """1 − dice coefficient of the probabilities: [..., H, W] to [...]."""
    p = logits.sigmoid()
    overlap = (p * targets).sum((-2, -1))
    return 1 - (2 * overlap + 1) / (p.sum((-2, -1)) + targets.sum((-2, -1)) + 1)


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of the masks that the logits stand for: [..., H, W] to [...]."""
    masks, truth = logits > 0, targets > 0.5
    shared = (masks & truth).sum((-2, -1))
    return shared / (masks | truth).sum((-2, -1)).clamp(min=1)


def encode_prompts(sam: Sam, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Sparse [N, tokens, 256] and dense [N, 256, H, W] embeddings; the prompt encoder is frozen."""
    device = sam.pixel_mean.device
    with torch.no_grad():
        if prompts.boxes is not None:
            encoded = sam.prompt_encoder(points=None, boxes=prompts.boxes.to(device), masks=None)
        else:
            assert prompts.points is not None
            points = prompts.points.to(device)
            labels = torch.ones(points.shape[:2], dtype=torch.int64, device=device)
            encoded = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    sparse, dense = encoded
    return sparse, dense


def decode_masks(
    sam: Sam, embedding: Tensor, encoded: tuple[Tensor, Tensor], positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All four masks of the decoder for one picture.

    The first is the token for unambiguous prompts, the others are the three of ambiguous ones.

    Args:
        embedding: [1, 256, H, W].
        encoded: what `encode_prompts` gave for the picture's N prompts.
        positions: the prompt encoder's `get_dense_pe()`, where it is at hand.

    Returns:
        Mask logits [N, 4, 4H, 4W] and predicted IoUs [N, 4].
    """
    logits, ious = sam.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe() if positions is None else positions,
        sparse_prompt_embeddings=encoded[0],
        dense_prompt_embeddings=encoded[1],
    )
    return logits, ious


def segmentation_loss(
    logits: Tensor, ious: Tensor, targets: Tensor, prompts: Prompts, kind: LossKind = "sam"
) -> Tensor:
    """The loss of one picture's objects, their mean.

    One point is ambiguous: of the three masks the best is trained, as in SAM. A box is not: all
    four masks are trained, so that whichever is asked for or ranked first is a good one. The IoU
    head learns the IoU of every mask.

    Args:
        logits: [N, 4, h, w], enlarged here to the targets' size.
        ious: [N, 4] as predicted.
        targets: [N, S, S] in {0, 1}.
        prompts: what was asked with.
        kind: `sam`, or `dice` alone for the masks, as SuperSAM (arXiv 2501.08504) has it.
    """
    logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
    wanted = targets[:, None].expand_as(logits)
    each = dice(logits, wanted)
    if kind == "sam":
        each = each + FOCAL_WEIGHT * focal(logits, wanted)
    trained = each if prompts.kind == "box" else each[:, 1:].min(dim=1).values
    return trained.mean() + F.mse_loss(ious, mask_iou(logits.detach(), wanted))
