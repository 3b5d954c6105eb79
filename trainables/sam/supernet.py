"""The supernet: a SAM whose encoder is elastic."""

from collections.abc import Iterator

from torch import Tensor, nn

from search_spaces.subnet import Subnet
from trainables.sam.encoder import ElasticEncoder
from trainables.sam.segment_anything_import import Sam


class Supernet(nn.Module):
    """A SAM and the elastic view of its image encoder; both hold the same weights."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        self.encoder = ElasticEncoder(sam.image_encoder)

    @property
    def largest(self) -> Subnet:
        """The parent as a subnet."""
        return self.encoder.largest

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Image encoder and mask decoder; SuperSAM freezes the prompt encoder."""
        yield from self.sam.image_encoder.parameters()
        yield from self.sam.mask_decoder.parameters()

    def forward(self, pictures: Tensor, subnet: Subnet) -> Tensor:
        """Embed normalised pictures [B, 3, S, S] as [B, 256, S/16, S/16]."""
        embedding: Tensor = self.encoder(pictures, subnet)
        return embedding
