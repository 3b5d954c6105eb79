"""What each layer is worth: few-shot removal, one layer at a time (SuperSAM, section 1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from trainables.sam.evaluation import EvaluationSet
from trainables.sam.evaluator import Evaluator
from trainables.sam.supernet import Supernet

WorthKind = Literal["miou", "embedding"]
"""What counts as a layer's worth: `miou_lost`, or the cheaper `embedding_error`."""


@dataclass(frozen=True)
class LayerWorth:
    """What removing one layer costs.

    `miou_lost` is mIoU of the parent minus mIoU without the layer, None where it was not measured;
    `embedding_error` is the mean over pictures of ‖e − e'‖ / ‖e‖ between the embeddings with and
    without it.
    """

    layer: int
    miou_lost: float | None
    embedding_error: float


@torch.no_grad()
def layer_worth(
    supernet: Supernet, calibration: EvaluationSet, kind: WorthKind = "miou"
) -> Iterator[LayerWorth]:
    """Remove each layer of the parent alone and measure; in the order of the layers.

    Each starts behind the layers that it shares with the parent.

    Args:
        supernet: the parent's weights, in evaluation mode.
        calibration: pictures with their prompts.
        kind: `embedding` leaves out the mIoU, and with it every decoding of masks.
    """
    evaluator = Evaluator(supernet, calibration)
    parent = supernet.largest
    reference = evaluator.embeddings(parent)
    whole = evaluator.metrics(reference).miou if kind == "miou" else None
    for layer in parent.layers:
        without = evaluator.embeddings(parent.without({layer}, supernet.encoder.full_heads))
        lost = None if whole is None else whole - evaluator.metrics(without).miou
        errors = [
            float((e - r).norm() / r.norm())
            for some, same in zip(without, reference, strict=True)
            for e, r in zip(some, same, strict=True)
        ]
        yield LayerWorth(layer, lost, sum(errors) / len(errors))
