"""Scores that look at no picture."""

from collections.abc import Iterable

import torch
from torch import Tensor

from trainables.data.batches import Batch
from trainables.sam.supernet import Supernet


@torch.no_grad()
def magnitude(supernet: Supernet, batches: Iterable[Batch], seed: int) -> list[Tensor]:
    """Sum of the absolute weights into and out of each neuron.

    s_i = Σ_j |W1_ij| + Σ_k |W2_ki|
    """
    return [
        mlp.first.weight.abs().double().sum(1).cpu() + mlp.second.weight.abs().double().sum(0).cpu()
        for mlp in supernet.encoder.mlps
    ]


def random(supernet: Supernet, batches: Iterable[Batch], seed: int) -> list[Tensor]:
    """An order by chance: what every other score must beat.

    s_i uniform in [0, 1), drawn from the seed alone; the same on every process.
    """
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.rand(mlp.first.out_features, generator=generator, dtype=torch.float64)
        for mlp in supernet.encoder.mlps
    ]
