"""SAM's own family: the plain ViT with windowed and global attention (arXiv 2304.02643)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.subnet import Subnet
from trainables.sam.attention import FirstHeads, heads_of, run_attention
from trainables.sam.encoder import ElasticEncoder, Mlp, elastic, sliced_mlp
from trainables.sam.family import EncoderConfig
from trainables.sam.segment_anything_import import (
    Attention,
    Block,
    ImageEncoderViT,
    MLPBlock,
    window_partition,
    window_unpartition,
)
from trainables.sam.units import Units


@dataclass(frozen=True)
class ViTConfig(EncoderConfig):
    """The shape of a `segment_anything.ImageEncoderViT`.

    Args:
        embed_dim: width of the token stream.
        num_heads: attention heads of a whole layer.
        global_layers: layers with global attention; the others attend within windows.
        window_size: side of a window, tokens.
        patch_size: side of a patch, pixels.
        layer_heads: attention heads of each layer; empty: all layers are whole.
    """

    embed_dim: int
    num_heads: int
    global_layers: tuple[int, ...]
    window_size: int = 14
    patch_size: int = 16
    layer_heads: tuple[int, ...] = ()

    family: ClassVar[str] = "vit"

    @property
    def full_heads(self) -> tuple[int, ...]:
        """Attention heads of each layer."""
        return self.layer_heads or (self.num_heads,) * self.depth

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
        layers = zip(encoder.blocks, self.mlp_widths, self.full_heads, strict=True)
        for block, width, heads in layers:
            block.mlp = MLPBlock(self.embed_dim, width, nn.GELU)
            if heads != self.num_heads:
                self._narrow(block.attn, heads)
        return encoder

    def _narrow(self, attention: Attention, heads: int) -> None:
        """Leave an attention so many heads, each as wide as before."""
        width = heads * (self.embed_dim // self.num_heads)
        attention.num_heads = heads
        attention.qkv = nn.Linear(self.embed_dim, 3 * width)
        attention.proj = nn.Linear(width, self.embed_dim)

    def reduced(self, subnet: Subnet) -> Self:
        """A layer that stays keeps its kind, windowed or global."""
        kept = {layer: position for position, layer in enumerate(subnet.layers)}
        return replace(
            self,
            mlp_widths=subnet.mlp_widths,
            global_layers=tuple(kept[layer] for layer in self.global_layers if layer in kept),
            layer_heads=subnet.heads or tuple(self.full_heads[layer] for layer in subnet.layers),
        )

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

    def heads(self, block: Block) -> Units:
        """The heads of a transformer layer."""
        return heads_of(block.attn)

    def attention(self, block: Block) -> str:
        """Global or windowed."""
        return "windowed" if block.window_size else "global"

    def stem(self, pictures: Tensor) -> Tensor:
        """Patches with their positions."""
        tokens: Tensor = self.parent.patch_embed(pictures)
        if self.parent.pos_embed is not None:
            tokens = tokens + self.parent.pos_embed
        return tokens

    def run_block(self, layer: int, tokens: Tensor, width: int, heads: int | None = None) -> Tensor:
        """A transformer layer: [B, H, W, C] to the same."""
        block = self.blocks[layer]
        tokens = attend(block, tokens, heads)
        return tokens + sliced_mlp(self.mlp(block), block.norm2(tokens), width)

    def head(self, tokens: Tensor) -> Tensor:
        """The neck."""
        embedding: Tensor = self.parent.neck(tokens.permute(0, 3, 1, 2))
        return embedding


def attend(block: Block, tokens: Tensor, heads: int | None = None) -> Tensor:
    """A block's attention, or that of its first heads, with its residual."""
    attention = block.attn if heads is None else FirstHeads(block.attn, heads)
    normed = block.norm1(tokens)
    if block.window_size == 0:
        return tokens + run_attention(attention, normed)
    windows, padded = window_partition(normed, block.window_size)
    windows = run_attention(attention, windows)
    attended: Tensor = window_unpartition(windows, block.window_size, padded, tokens.shape[1:3])
    return tokens + attended
