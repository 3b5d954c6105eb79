"""Scores that look at no picture."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from trainables.data.batches import Batch
from trainables.sam.supernet import Supernet
from trainables.sam.units import Units


@torch.no_grad()
def magnitude(
    supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """Sum of the absolute weights into and out of each unit.

    s_u = Σ_ij |W1_ij| + Σ_ik |W2_ki|, with i the unit's rows of the first linear layer, and columns
    of the second.
    """
    return [
        each.sum_rows(each.first.weight.abs().double().sum(1).cpu())
        + each.sum_columns(each.second.weight.abs().double().sum(0).cpu())
        for each in units
    ]


def random(
    supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """An order by chance: what every other score must beat.

    s_u uniform in [0, 1), drawn from the seed alone; the same on every process.
    """
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(each.count, generator=generator, dtype=torch.float64) for each in units]
