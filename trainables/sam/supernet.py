"""The supernet: a SAM whose encoder is elastic."""

from collections.abc import Iterator
from functools import cached_property
from typing import Self

from torch import Tensor, nn

from search_spaces.subnet import Subnet
from trainables.costs import CostTable, cost_table
from trainables.sam.encoder import elastic
from trainables.sam.segment_anything_import import Sam


class Supernet(nn.Module):
    """A SAM and the elastic view of its image encoder; both hold the same weights.

    Args:
        sam: with the weights.
        costs: what each subnet costs, where that was counted; else it is, when it is asked for.
    """

    def __init__(self, sam: Sam, costs: CostTable | None = None) -> None:
        super().__init__()
        self.sam = sam
        self.encoder = elastic(sam.image_encoder)
        self._counted = costs

    @property
    def largest(self) -> Subnet:
        """The parent as a subnet."""
        return self.encoder.largest

    @cached_property
    def costs(self) -> CostTable:
        """What each of its subnets costs."""
        return self._counted or cost_table(self.sam)

    def train(self, mode: bool = True) -> Self:
        """As every module, but batch norms keep the parent's statistics.

        Each subnet would have its own; with fixed ones a subnet computes the same in training, in
        evaluation and as a model of its own.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Image encoder and mask decoder; SuperSAM freezes the prompt encoder."""
        yield from self.sam.image_encoder.parameters()
        yield from self.sam.mask_decoder.parameters()

    def forward(self, pictures: Tensor, subnet: Subnet, *, recompute: bool = False) -> Tensor:
        """Embed normalised pictures [B, 3, S, S] as [B, 256, S/16, S/16].

        Args:
            recompute: as in `ElasticEncoder.layers`.
        """
        embedding: Tensor = self.encoder(pictures, subnet, recompute=recompute)
        return embedding
