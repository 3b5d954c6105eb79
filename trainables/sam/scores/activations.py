"""Scores from what flows through the MLPs; they need pictures and no labels."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from trainables.data.batches import Batch
from trainables.sam.scores.processes import sum_over_processes
from trainables.sam.supernet import Supernet


@torch.no_grad()
def wanda(supernet: Supernet, batches: Iterable[Batch], seed: int) -> list[Tensor]:
    """SuperSAM's score (arXiv 2501.08504), after Wanda (arXiv 2306.11695).

    s_i = 1/2 (Σ_j |W1_ij| ‖x_j‖ + Σ_k |W2_ki| ‖h_i‖), with x the input of the first linear layer,
    h that of the second, and norms over all tokens of all pictures.
    """
    mlps = supernet.encoder.mlps
    layers = [*(mlp.first for mlp in mlps), *(mlp.second for mlp in mlps)]
    norms = _input_norms(supernet, layers, batches)
    scores = []
    for mlp, x, h in zip(mlps, norms[: len(mlps)], norms[len(mlps) :], strict=True):
        rows = mlp.first.weight.abs().double().cpu() @ x
        columns = mlp.second.weight.abs().double().cpu().sum(0) * h
        scores.append((rows + columns) / 2)
    return scores


def activation(supernet: Supernet, batches: Iterable[Batch], seed: int) -> list[Tensor]:
    """How strongly each neuron fires; Minitron's score (arXiv 2407.14679) with L2 norms.

    s_i = ‖h_i‖, with h the input of the second linear layer, over all tokens of all pictures.
    """
    return _input_norms(supernet, [mlp.second for mlp in supernet.encoder.mlps], batches)


@torch.no_grad()
def _input_norms(
    supernet: Supernet, layers: Sequence[nn.Linear], batches: Iterable[Batch]
) -> list[Tensor]:
    """For each layer the L2 norms of its inputs [in_features], over all tokens of all pictures."""
    device = next(supernet.parameters()).device
    squares = [
        torch.zeros(layer.in_features, dtype=torch.float64, device=device) for layer in layers
    ]
    hooks = [
        layer.register_forward_pre_hook(partial(_add_squares, total))
        for layer, total in zip(layers, squares, strict=True)
    ]
    try:
        for batch in batches:
            # The parent's own forward: it calls the modules, which the hooks listen to.
            supernet.encoder.parent(batch.pictures.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    sum_over_processes(squares)
    return [total.sqrt().cpu() for total in squares]


def _add_squares(total: Tensor, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    total += inputs[0].double().square().flatten(0, -2).sum(0)
