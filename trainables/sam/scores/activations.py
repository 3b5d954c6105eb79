"""Scores from what flows through the units; they need pictures and no labels."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from trainables.data.batches import Batch
from trainables.sam.scores.processes import sum_over_processes
from trainables.sam.supernet import Supernet
from trainables.sam.units import Units


@torch.no_grad()
def wanda(
    supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """SuperSAM's score (arXiv 2501.08504), after Wanda (arXiv 2306.11695).

    s_u = 1/2 (Σ_ij |W1_ij| ‖x_j‖ + Σ_ik |W2_ki| ‖h_i‖), with i the rows of the first linear layer,
    and columns of the second, that belong to the unit, x the input of the first, h that of the
    second, and norms over all tokens of all pictures.
    """
    layers = [*(each.first for each in units), *(each.second for each in units)]
    norms = [total.sqrt() for total in _input_squares(supernet, layers, batches)]
    scores = []
    for each, x, h in zip(units, norms[: len(units)], norms[len(units) :], strict=True):
        rows = each.first.weight.abs().double().cpu() @ x
        columns = each.second.weight.abs().double().cpu().sum(0) * h
        scores.append((each.sum_rows(rows) + each.sum_columns(columns)) / 2)
    return scores


def activation(
    supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """How strongly each unit fires; Minitron's score (arXiv 2407.14679) with L2 norms.

    s_u = ‖h_u‖, with h_u what the unit gives to the second linear layer, over all tokens of all
    pictures.
    """
    squares = _input_squares(supernet, [each.second for each in units], batches)
    return [each.sum_columns(total).sqrt() for each, total in zip(units, squares, strict=True)]


@torch.no_grad()
def _input_squares(
    supernet: Supernet, layers: Sequence[nn.Linear], batches: Iterable[Batch]
) -> list[Tensor]:
    """For each layer its inputs' squares, summed over all tokens of all pictures: [in_features]."""
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
    return [total.cpu() for total in squares]


def _add_squares(total: Tensor, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    total += inputs[0].double().square().flatten(0, -2).sum(0)
