"""Scores from the gradient of SAM's loss: what a picture's labels say about each unit.

Pictures go one at a time: batches of any size give the same, and a gradient is the largest thing
that is held.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from trainables.data.batches import Batch
from trainables.sam.decoder import decode_masks, encode_prompts
from trainables.sam.losses import segmentation_loss
from trainables.sam.scores.processes import sum_over_processes
from trainables.sam.supernet import Supernet
from trainables.sam.units import Units


def taylor(
    supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """The first-order Taylor term of each of a unit's weights, summed (arXiv 2305.11627).

    s_u = Σ_i (Σ_j |W1_ij ∂L/∂W1_ij| + |b1_i ∂L/∂b1_i|) + Σ_i Σ_k |W2_ki ∂L/∂W2_ki|, with i the
    unit's rows of the first linear layer, and columns of the second, and L the sum of all pictures'
    losses. The absolute value stands within the sum: contributions don't cancel.
    """
    weights = [
        p for each in units for p in (each.first.weight, each.first.bias, each.second.weight)
    ]
    totals = [torch.zeros_like(p) for p in weights]
    for gradients in _picture_gradients(supernet, batches, weights):
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient
    sum_over_processes(totals)
    terms = [(p.detach() * g).abs().double().cpu() for p, g in zip(weights, totals, strict=True)]
    return [
        each.sum_rows(rows.sum(1) + biases) + each.sum_columns(columns.sum(0))
        for each, rows, biases, columns in zip(
            units, terms[::3], terms[1::3], terms[2::3], strict=True
        )
    ]


def fisher(
    supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """The empirical Fisher information of a gate on each unit (arXiv 1801.05787).

    s_u = Σ_p (Σ_i Σ_t h_ti ∂L_p/∂h_ti)², with L_p the loss of picture p, i the columns of the
    second linear layer that belong to the unit, and h their inputs at all tokens t. The sum over t
    is computed as Σ_k W2_ki ∂L_p/∂W2_ki, which equals it.
    """
    weights = [each.second.weight for each in units]
    totals = [
        torch.zeros(each.count, dtype=torch.float64, device=each.second.weight.device)
        for each in units
    ]
    for gradients in _picture_gradients(supernet, batches, weights):
        for each, total, gradient in zip(units, totals, gradients, strict=True):
            columns = (each.second.weight.detach() * gradient).double().sum(0)
            total += each.sum_columns(columns).square()
    sum_over_processes(totals)
    return [total.cpu() for total in totals]


def _picture_gradients(
    supernet: Supernet, batches: Iterable[Batch], weights: Sequence[Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """For each picture the gradient of its loss on the parent; no `grad` is written."""
    device = next(supernet.parameters()).device
    for batch in batches:
        for picture, targets, prompts in zip(
            batch.pictures, batch.targets, batch.prompts, strict=True
        ):
            with torch.enable_grad():
                embedding = supernet(picture[None].to(device), supernet.largest)
                encoded = encode_prompts(supernet.sam, prompts)
                logits, ious = decode_masks(supernet.sam, embedding, encoded)
                loss = segmentation_loss(logits, ious, targets.to(device), prompts)
                gradients = torch.autograd.grad(loss, weights)
            yield gradients
