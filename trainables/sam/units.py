"""Units: what a layer may have fewer of, the neurons of its MLP or the heads of its attention.

Both stand between two linear layers: rows of the first and columns of the second belong to each.
So slices to the first units, their order, scores and extraction are the same for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Units:
    """The units between two linear layers.

    Args:
        first: into the units, with biases. Its rows lie as [groups, count, rows of a unit].
        second: out of them. Its columns lie as [count, columns of a unit].
        count: how many units there are.
        groups: how many times all units follow one another in the rows of `first`: three times
            where they are the queries of all heads, then the keys, then the values.
        tables: what else each unit has of its own: [count, …].
    """

    first: nn.Linear
    second: nn.Linear
    count: int
    groups: int = 1
    tables: tuple[Tensor, ...] = ()

    def into(self, tokens: Tensor, count: int) -> Tensor:
        """`first` for the first `count` units: [..., C] to [..., their rows]. Slices are views."""
        if count == self.count:
            whole: Tensor = self.first(tokens)
            return whole
        rows = self.first.out_features // self.groups * count // self.count
        if self.groups == 1:
            return F.linear(tokens, self.first.weight[:rows], self.first.bias[:rows])
        weights = self.first.weight.unflatten(0, (self.groups, -1))[:, :rows]
        biases = self.first.bias.unflatten(0, (self.groups, -1))[:, :rows]
        parts = [F.linear(tokens, w, b) for w, b in zip(weights, biases, strict=True)]
        return torch.cat(parts, dim=-1)

    def out_of(self, hidden: Tensor, count: int) -> Tensor:
        """`second` for the first `count` units: [..., their columns] to [..., C']."""
        if count == self.count:
            whole: Tensor = self.second(hidden)
            return whole
        columns = self.second.in_features * count // self.count
        return F.linear(hidden, self.second.weight[:, :columns], self.second.bias)

    def parts(self) -> list[tuple[Tensor, int]]:
        """Views of all that belongs to single units, and the dimension along which they lie."""
        by_row = (self.groups, self.count, -1)
        return [
            (self.first.weight.unflatten(0, by_row), 1),
            (self.first.bias.unflatten(0, by_row), 1),
            (self.second.weight.unflatten(1, (self.count, -1)), 1),
            *((table, 0) for table in self.tables),
        ]

    @property
    def params_each(self) -> int:
        """Parameters of one unit."""
        return sum(part.numel() for part, _ in self.parts()) // self.count

    def sum_rows(self, values: Tensor) -> Tensor:
        """Values of the rows of `first` summed within each unit: [rows] to [count]."""
        return values.view(self.groups, self.count, -1).sum((0, 2))

    def sum_columns(self, values: Tensor) -> Tensor:
        """Values of the columns of `second` summed within each unit: [columns] to [count]."""
        return values.view(self.count, -1).sum(1)


@torch.no_grad()
def reorder(layers: Sequence[Units], orders: Sequence[Tensor]) -> None:
    """Permute each layer's units in place, so that a slice holds those named first.

    The encoder computes what it computed before. SuperSAM's parameter prioritisation: rows of the
    first linear layer with their biases, and columns of the second, move together.

    Args:
        layers: whose weights are changed.
        orders: for each layer a permutation of its units, most important first.
    """
    for units, order in zip(layers, orders, strict=True):
        if sorted(order.tolist()) != list(range(units.count)):
            raise ValueError("an order must name every unit once")
        for part, dimension in units.parts():
            part.copy_(part.index_select(dimension, order.to(part.device)))


@torch.no_grad()
def copy_first(units: Units, whole: Units) -> None:
    """Fill the units of a smaller layer with the first ones of a larger."""
    for (own, dimension), (source, _) in zip(units.parts(), whole.parts(), strict=True):
        own.copy_(source.narrow(dimension, 0, units.count))
