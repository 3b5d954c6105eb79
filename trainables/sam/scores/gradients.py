"""Scores from the gradient of SAM's loss: what a picture's labels say about each neuron.

Pictures go one at a time: batches of any size give the same, and a gradient is the largest thing
that is held.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from trainables.data.batches import Batch
from trainables.sam.losses import decode_masks, encode_prompts, segmentation_loss
from trainables.sam.scores.processes import sum_over_processes
from trainables.sam.supernet import Supernet


def taylor(supernet: Supernet, batches: Iterable[Batch], seed: int) -> list[Tensor]:
    """The first-order Taylor term of each of a neuron's weights, summed (arXiv 2305.11627).

    s_i = Σ_j |W1_ij ∂L/∂W1_ij| + |b1_i ∂L/∂b1_i| + Σ_k |W2_ki ∂L/∂W2_ki|, with L the sum of all
    pictures' losses. The absolute value stands within the sum: contributions don't cancel.
    """
    mlps = supernet.encoder.mlps
    weights = [p for mlp in mlps for p in (mlp.first.weight, mlp.first.bias, mlp.second.weight)]
    totals = [torch.zeros_like(p) for p in weights]
    for gradients in _picture_gradients(supernet, batches, weights):
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient
    sum_over_processes(totals)
    terms = [(p.detach() * g).abs().double().cpu() for p, g in zip(weights, totals, strict=True)]
    return [
        rows.sum(1) + biases + columns.sum(0)
        for rows, biases, columns in zip(terms[::3], terms[1::3], terms[2::3], strict=True)
    ]


def fisher(supernet: Supernet, batches: Iterable[Batch], seed: int) -> list[Tensor]:
    """The empirical Fisher information of a gate on each neuron (arXiv 1801.05787).

    s_i = Σ_p (Σ_t h_ti ∂L_p/∂h_ti)², with L_p the loss of picture p and h the hidden activations
    at all its tokens t. The inner sum is computed as Σ_k W2_ki ∂L_p/∂W2_ki, which equals it.
    """
    weights = [mlp.second.weight for mlp in supernet.encoder.mlps]
    totals = [torch.zeros(w.shape[1], dtype=torch.float64, device=w.device) for w in weights]
    for gradients in _picture_gradients(supernet, batches, weights):
        for total, weight, gradient in zip(totals, weights, gradients, strict=True):
            total += (weight.detach() * gradient).double().sum(0).square()
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
