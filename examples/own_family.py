"""A family of SAM encoders of one's own, in one file.

The encoder here is a plain transformer that attends globally everywhere, as EfficientSAM's does
(arXiv 2312.00863). Three things make it a family:

1. the encoder: pictures [B, 3, S, S] to an embedding [B, 256, S/16, S/16], with `img_size`;
2. an `EncoderConfig`, which builds it, and says what shape a subnet has that stands alone;
3. an `ElasticEncoder`, which names its blocks and their MLPs, and runs a block at any width.

Parameters, MACs, what a layer's removal saves, neuron scores, drop probabilities, training, search
and extraction follow from these. NAME in FILE is the parent:

    supersam run model=examples/own_family.py:SMALL checkpoint=small.pth data=DIR
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from search_spaces import Subnet
from trainables.sam.encoder import ElasticEncoder, Mlp, elastic, sliced_mlp
from trainables.sam.family import EncoderConfig


class Block(nn.Module):
    """Attention and MLP, each behind a norm and with a residual: tokens [B, N, C] to the same."""

    def __init__(self, dim: int, heads: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.fc1, self.act, self.fc2 = nn.Linear(dim, width), nn.GELU(), nn.Linear(width, dim)

    def attend(self, tokens: Tensor) -> Tensor:
        x = self.norm1(tokens)
        return tokens + self.attention(x, x, x, need_weights=False)[0]

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.attend(tokens)
        return tokens + self.fc2(self.act(self.fc1(self.norm2(tokens))))


class PlainEncoder(nn.Module):
    def __init__(self, image_size: int, dim: int, heads: int, mlp_widths: Sequence[int]) -> None:
        super().__init__()
        self.img_size = image_size
        self.patches = nn.Conv2d(3, dim, 16, 16)
        self.positions = nn.Parameter(torch.zeros(1, (image_size // 16) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, width) for width in mlp_widths)
        self.neck = nn.Conv2d(dim, 256, 1)

    def stem(self, pictures: Tensor) -> Tensor:
        return self.patches(pictures).flatten(2).transpose(1, 2) + self.positions

    def head(self, tokens: Tensor) -> Tensor:
        side = self.img_size // 16
        return self.neck(tokens.transpose(1, 2).unflatten(2, (side, side)))

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.stem(pictures)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens)


@dataclass(frozen=True)
class PlainConfig(EncoderConfig):
    dim: int
    heads: int

    family: ClassVar[str] = "plain"

    def build(self) -> PlainEncoder:
        return PlainEncoder(self.image_size, self.dim, self.heads, self.mlp_widths)

    def reduced(self, subnet: Subnet) -> Self:
        return replace(self, mlp_widths=subnet.mlp_widths)


@elastic.register(PlainEncoder)
class ElasticPlainEncoder(ElasticEncoder):
    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.parent.blocks

    def mlp(self, block: nn.Module) -> Mlp:
        return Mlp(block.fc1, block.act, block.fc2)

    def attention(self, block: nn.Module) -> str:
        return "global"

    def stem(self, pictures: Tensor) -> Tensor:
        return self.parent.stem(pictures)

    def run_block(self, layer: int, tokens: Tensor, width: int) -> Tensor:
        block = self.blocks[layer]
        tokens = block.attend(tokens)
        return tokens + sliced_mlp(self.mlp(block), block.norm2(tokens), width)

    def head(self, tokens: Tensor) -> Tensor:
        return self.parent.head(tokens)


SMALL = PlainConfig(image_size=256, mlp_widths=(768,) * 12, dim=192, heads=3)
