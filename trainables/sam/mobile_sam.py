"""MobileSAM's family (arXiv 2306.14289): a TinyViT encoder before SAM's own decoder.

Elastic in the same dimensions as a plain ViT: each of the ten blocks with attention can be
removed, since it keeps its input's shape, and its MLP and its attention sliced. The convolutional
stage, and the steps between stages, which change the shape, stay in every subnet.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, ClassVar, Self

from torch import Tensor

from search_spaces.subnet import Subnet
from trainables.sam.encoder import ElasticEncoder, Mlp, elastic, sliced_mlp
from trainables.sam.family import EncoderConfig
from trainables.sam.tiny_vit import TinyViT, TinyViTBlock
from trainables.sam.units import Units


@dataclass(frozen=True)
class TinyViTConfig(EncoderConfig):
    """The shape of a `TinyViT`.

    Args:
        channels: width of the convolutional stage and of the three with attention.
        depths: blocks of each stage with attention.
        heads: attention heads of whole blocks in each of them.
        windows: side of the windows in each of them, tokens.
        layer_heads: attention heads of each block; empty: all blocks are whole.
    """

    channels: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 6, 2)
    heads: tuple[int, ...] = (4, 5, 10)
    windows: tuple[int, ...] = (7, 14, 7)
    layer_heads: tuple[int, ...] = ()

    family: ClassVar[str] = "tiny_vit"
    # The classifier that TinyViT was pretrained with.
    unused: ClassVar[tuple[str, ...]] = ("norm_head.", "head.")

    @property
    def full_heads(self) -> tuple[int, ...]:
        """Attention heads of each block."""
        stages = zip(self.heads, self.depths, strict=True)
        return self.layer_heads or sum(((heads,) * depth for heads, depth in stages), ())

    def build(self) -> TinyViT:
        """The encoder with fresh weights."""
        return TinyViT(
            self.image_size,
            self.channels,
            self.depths,
            self.heads,
            self.windows,
            self.mlp_widths,
            self.full_heads,
        )

    def reduced(self, subnet: Subnet) -> Self:
        """Stages keep their place; one may be left without blocks."""
        ends = list(accumulate(self.depths))
        kept = [bisect_right(ends, layer) for layer in subnet.layers]
        depths = tuple(kept.count(stage) for stage in range(len(self.depths)))
        heads = subnet.heads or tuple(self.full_heads[layer] for layer in subnet.layers)
        return replace(self, mlp_widths=subnet.mlp_widths, depths=depths, layer_heads=heads)


@elastic.register(TinyViT)
class ElasticTinyViT(ElasticEncoder):
    """Subnets of a TinyViT; between stem and head are feature maps [B, H, W, C]."""

    parent: TinyViT

    @property
    def blocks(self) -> Sequence[TinyViTBlock]:
        """The blocks with attention, of all stages."""
        return [block for stage in self.parent.stages for block in stage.blocks]

    def mlp(self, block: Any) -> Mlp:
        """The MLP of a block."""
        return Mlp(block.mlp.fc1, block.mlp.act, block.mlp.fc2)

    def heads(self, block: Any) -> Units:
        """The heads of a block."""
        units: Units = block.attn.units
        return units

    def attention(self, block: Any) -> str:
        """All attend within windows."""
        return "windowed"

    def stem(self, pictures: Tensor) -> Tensor:
        """The convolutional stage, and the steps of stages without blocks that come first."""
        return self._steps(0, self.parent.stem(pictures))

    def run_block(self, layer: int, tokens: Tensor, width: int, heads: int | None = None) -> Tensor:
        """A block: [B, H, W, C] to the same."""
        block = self.blocks[layer]
        tokens = block.mix(tokens, heads)
        return tokens + sliced_mlp(self.mlp(block), block.mlp.norm(tokens), width)

    def run_after(self, layer: int, tokens: Tensor) -> Tensor:
        """The step to the next stage, behind the last block of a stage."""
        return self._steps(layer + 1, tokens)

    def _steps(self, done: int, tokens: Tensor) -> Tensor:
        """The steps of all stages that end where so many blocks are done."""
        ends = accumulate(len(stage.blocks) for stage in self.parent.stages)
        for stage, end in zip(self.parent.stages, ends, strict=True):
            if end == done:
                tokens = stage.step(tokens)
        return tokens

    def head(self, tokens: Tensor) -> Tensor:
        """The neck."""
        embedding: Tensor = self.parent.neck(tokens.permute(0, 3, 1, 2))
        return embedding
