"""The elastic encoder: any subnet of a plain-ViT SAM encoder, run on the parent's own weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.subnet import Subnet
from trainables.sam.segment_anything_import import (
    Block,
    ImageEncoderViT,
    MLPBlock,
    window_partition,
    window_unpartition,
)


def sliced_mlp(mlp: MLPBlock, tokens: Tensor, width: int) -> Tensor:
    """The MLP with its first `width` hidden neurons: [..., C] to [..., C]. Slices are views."""
    hidden = F.linear(tokens, mlp.lin1.weight[:width], mlp.lin1.bias[:width])
    output: Tensor = F.linear(mlp.act(hidden), mlp.lin2.weight[:, :width], mlp.lin2.bias)
    return output


def attend(block: Block, tokens: Tensor) -> Tensor:
    """A block's attention with its residual: [B, H, W, C] to the same."""
    attended: Tensor
    if block.window_size == 0:
        attended = block.attn(block.norm1(tokens))
    else:
        windows, padded = window_partition(block.norm1(tokens), block.window_size)
        size = tokens.shape[1:3]
        attended = window_unpartition(block.attn(windows), block.window_size, padded, size)
    return tokens + attended


class ElasticEncoder(nn.Module):
    """An image encoder that runs any of its subnets; which one is an argument, not a state.

    It holds the parent's encoder itself: weights are shared, never copied, and training a subnet
    trains the parent's slices.
    """

    def __init__(self, parent: ImageEncoderViT) -> None:
        super().__init__()
        self.parent = parent

    @property
    def largest(self) -> Subnet:
        """The parent as a subnet."""
        widths = tuple(block.mlp.lin1.out_features for block in self.parent.blocks)
        return Subnet(tuple(range(len(widths))), widths)

    def forward(self, pictures: Tensor, subnet: Subnet) -> Tensor:
        """Embed normalised pictures [B, 3, S, S] as [B, 256, S/16, S/16]."""
        return self.head(self.layers(self.stem(pictures), subnet))

    def stem(self, pictures: Tensor) -> Tensor:
        """Patches with their positions: [B, 3, S, S] to tokens [B, H, W, C]."""
        tokens: Tensor = self.parent.patch_embed(pictures)
        if self.parent.pos_embed is not None:
            tokens = tokens + self.parent.pos_embed
        return tokens

    def layers(self, tokens: Tensor, subnet: Subnet) -> Tensor:
        """The subnet's layers: tokens [B, H, W, C] to the same."""
        for layer, width in zip(subnet.layers, subnet.mlp_widths, strict=True):
            block = self.parent.blocks[layer]
            tokens = attend(block, tokens)
            tokens = tokens + sliced_mlp(block.mlp, block.norm2(tokens), width)
        return tokens

    def head(self, tokens: Tensor) -> Tensor:
        """The neck: tokens [B, H, W, C] to [B, 256, H, W]."""
        embedding: Tensor = self.parent.neck(tokens.permute(0, 3, 1, 2))
        return embedding


@torch.no_grad()
def reorder_neurons(encoder: ImageEncoderViT, orders: list[Tensor]) -> None:
    """Permute each MLP's hidden neurons in place, so that a slice holds those named first.

    The encoder computes what it computed before. SuperSAM's parameter prioritisation: rows of the
    first linear layer with their biases, and columns of the second, move together.

    Args:
        encoder: changed in place.
        orders: for each layer a permutation of its neurons, most important first.
    """
    for block, order in zip(encoder.blocks, orders, strict=True):
        mlp = block.mlp
        if sorted(order.tolist()) != list(range(mlp.lin1.out_features)):
            raise ValueError("an order must name every neuron once")
        mlp.lin1.weight.copy_(mlp.lin1.weight[order])
        mlp.lin1.bias.copy_(mlp.lin1.bias[order])
        mlp.lin2.weight.copy_(mlp.lin2.weight[:, order])
