"""SAM's own family: the plain ViT with windowed and global attention (arXiv 2304.02643)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.subnet import Subnet
from trainables.sam.attention import run_attention
from trainables.sam.encoder import ElasticEncoder, Mlp, elastic, sliced_mlp
from trainables.sam.family import EncoderConfig
from trainables.sam.segment_anything_import import (
    Block,
    ImageEncoderViT,
    MLPBlock,
    window_partition,
    window_unpartition,
)


@dataclass(frozen=True)
class ViTConfig(EncoderConfig):
    """The shape of a `segment_anything.ImageEncoderViT`.

    Args:
        embed_dim: width of the token stream.
        num_heads: attention heads of each layer.
        global_layers: layers with global attention; the others attend within windows.
        window_size: side of a window, tokens.
        patch_size: side of a patch, pixels.
    """

    embed_dim: int
    num_heads: int
    global_layers: tuple[int, ...]
    window_size: int = 14
    patch_size: int = 16

    family: ClassVar[str] = "vit"

    def build(self) -> ImageEncoderViT:
        """The encoder with fresh weights."""
        encoder = ImageEncoderViT(
            img_size=self.image_size,
            patch_size=self.patch_size,
            embed_dim=self.embed_dim,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=1.0,  # replaced below: widths may differ from layer to layer
            out_chans=256,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=self.window_size,
            global_attn_indexes=self.global_layers,
        )
        for block, width in zip(encoder.blocks, self.mlp_widths, strict=True):
            block.mlp = MLPBlock(self.embed_dim, width, nn.GELU)
        return encoder

    def reduced(self, subnet: Subnet) -> Self:
        """A layer that stays keeps its kind, windowed or global."""
        kept = {layer: position for position, layer in enumerate(subnet.layers)}
        global_layers = tuple(kept[layer] for layer in self.global_layers if layer in kept)
        return replace(self, mlp_widths=subnet.mlp_widths, global_layers=global_layers)

    def fit(self, name: str, tensor: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """Absolute positions [1, H, W, C] bicubically; relative ones [2S-1, C] linearly.

        The latter is the rule by which segment_anything itself stretches a table that is too short.
        """
        kind = name.rsplit(".", 1)[-1]
        if tensor.ndim != len(size) or tensor.shape[-1] != size[-1]:
            return None
        if kind == "pos_embed":
            grid = F.interpolate(
                tensor.permute(0, 3, 1, 2), size[1:3], mode="bicubic", align_corners=False
            )
            return grid.permute(0, 2, 3, 1)
        if kind in ("rel_pos_h", "rel_pos_w"):
            return F.interpolate(tensor.T[None], size[0], mode="linear")[0].T
        return None


@elastic.register(ImageEncoderViT)
class ElasticViT(ElasticEncoder):
    """Subnets of a plain ViT; between stem and head are tokens [B, H, W, C]."""

    parent: ImageEncoderViT

    @property
    def blocks(self) -> Sequence[Block]:
        """The transformer layers."""
        blocks: Sequence[Block] = self.parent.blocks
        return blocks

    def mlp(self, block: Block) -> Mlp:
        """The MLP of a transformer layer."""
        return Mlp(block.mlp.lin1, block.mlp.act, block.mlp.lin2)

    def attention(self, block: Block) -> str:
        """Global or windowed."""
        return "windowed" if block.window_size else "global"

    def stem(self, pictures: Tensor) -> Tensor:
        """Patches with their positions."""
        tokens: Tensor = self.parent.patch_embed(pictures)
        if self.parent.pos_embed is not None:
            tokens = tokens + self.parent.pos_embed
        return tokens

    def run_block(self, layer: int, tokens: Tensor, width: int) -> Tensor:
        """A transformer layer: [B, H, W, C] to the same."""
        block = self.blocks[layer]
        tokens = attend(block, tokens)
        return tokens + sliced_mlp(self.mlp(block), block.norm2(tokens), width)

    def head(self, tokens: Tensor) -> Tensor:
        """The neck."""
        embedding: Tensor = self.parent.neck(tokens.permute(0, 3, 1, 2))
        return embedding


def attend(block: Block, tokens: Tensor) -> Tensor:
    """A block's attention with its residual."""
    normed = block.norm1(tokens)
    if block.window_size == 0:
        return tokens + run_attention(block.attn, normed)
    windows, padded = window_partition(normed, block.window_size)
    windows = run_attention(block.attn, windows)
    attended: Tensor = window_unpartition(windows, block.window_size, padded, tokens.shape[1:3])
    return tokens + attended
