"""The elastic encoder: any subnet of a SAM image encoder, run on the parent's own weights."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from search_spaces.subnet import LayerSize, Subnet
from trainables.sam.units import Units


class Mlp(NamedTuple):
    """The two linear layers of a block's MLP, and the activation between them."""

    first: nn.Linear
    activation: nn.Module
    second: nn.Linear

    @property
    def neurons(self) -> Units:
        """Its hidden neurons."""
        return Units(self.first, self.second, self.first.out_features)


def sliced_mlp(mlp: Mlp, tokens: Tensor, width: int) -> Tensor:
    """The MLP with its first `width` hidden neurons: [..., C] to [..., C]."""
    neurons = mlp.neurons
    return neurons.out_of(mlp.activation(neurons.into(tokens, width)), width)


class ElasticEncoder(nn.Module, ABC):
    """An image encoder that runs any of its subnets; which one is an argument, not a state.

    It holds the parent's encoder itself: weights are shared, never copied, and training a subnet
    trains the parent's slices. A family of encoders is a subclass that says what its blocks are and
    how they run; `elastic` finds it by the encoder's type.
    """

    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        self.parent = parent

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """The layers that a subnet may go without, in order; each keeps the shape of its input."""

    @abstractmethod
    def mlp(self, block: nn.Module) -> Mlp:
        """The MLP of one of `blocks`; its neurons are what a subnet may have fewer of."""

    def heads(self, block: nn.Module) -> Units | None:
        """The attention heads of one of `blocks`; None, as here: a subnet can't have fewer."""
        return None

    @abstractmethod
    def attention(self, block: nn.Module) -> str:
        """What one of `blocks` attends to, for people: `global`, or `windowed`."""

    @abstractmethod
    def stem(self, pictures: Tensor) -> Tensor:
        """What comes before the first of `blocks`: [B, 3, S, S] to that block's input."""

    @abstractmethod
    def run_block(self, layer: int, tokens: Tensor, width: int, heads: int | None = None) -> Tensor:
        """One of `blocks` with its residuals, so many neurons in its MLP and so many heads.

        A family without `heads` needs no such argument.

        Args:
            heads: fewer than it has; None: all.
        """

    def run_after(self, layer: int, tokens: Tensor) -> Tensor:
        """What every subnet has behind a layer, even one that goes without it; here nothing."""
        return tokens

    @abstractmethod
    def head(self, tokens: Tensor) -> Tensor:
        """What comes after the last of `blocks`: to the embedding [B, 256, S/16, S/16]."""

    @property
    def image_size(self) -> int:
        """Side of the input, pixels."""
        size = self.parent.img_size
        assert isinstance(size, int)
        return size

    @property
    def mlps(self) -> list[Mlp]:
        """The MLP of each layer."""
        return [self.mlp(block) for block in self.blocks]

    @property
    def neurons(self) -> list[Units]:
        """The MLP's neurons of each layer."""
        return [mlp.neurons for mlp in self.mlps]

    @property
    def attention_heads(self) -> list[Units]:
        """The attention heads of each layer; empty where a subnet can't have fewer in all."""
        found = [units for block in self.blocks if (units := self.heads(block)) is not None]
        return found if len(found) == len(self.blocks) else []

    @property
    def full_heads(self) -> tuple[int, ...]:
        """How many those are."""
        return tuple(units.count for units in self.attention_heads)

    @property
    def largest(self) -> Subnet:
        """The parent as a subnet."""
        widths = tuple(mlp.first.out_features for mlp in self.mlps)
        return Subnet(tuple(range(len(widths))), widths)

    def forward(self, pictures: Tensor, subnet: Subnet, *, recompute: bool = False) -> Tensor:
        """Embed normalised pictures [B, 3, S, S] as [B, 256, S/16, S/16].

        Args:
            recompute: as in `layers`.
        """
        return self.head(self.layers(self.stem(pictures), subnet, recompute=recompute))

    def layers(
        self,
        tokens: Tensor,
        subnet: Subnet,
        *,
        start: int = 0,
        stop: int | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """The subnet's layers, one after the other.

        Args:
            tokens: what `stem` gave, or the layers before `start`.
            subnet: which layers run, and how much of each.
            start: the first layer of the parent that is looked at.
            stop: the one before which to stop; None: all.
            recompute: keep only each block's input for the backward pass, which then runs the block
                again (arXiv 1604.06174): the same gradients in less memory and more time.
        """
        sizes = subnet.sizes(self.full_heads)
        for layer in range(len(self.blocks))[start:stop]:
            if layer in sizes:
                tokens = self.run_layer(layer, tokens, sizes[layer], recompute=recompute)
            tokens = self.run_after(layer, tokens)
        return tokens

    def run_layer(
        self, layer: int, tokens: Tensor, size: LayerSize, *, recompute: bool = False
    ) -> Tensor:
        """One layer at the size that a subnet has of it; `recompute` as in `layers`."""
        # Families without elastic heads are not asked for any.
        kept = size[:1] if size.heads is None else size
        if not (recompute and torch.is_grad_enabled()):
            return self.run_block(layer, tokens, *kept)
        output: Tensor = checkpoint(self.run_block, layer, tokens, *kept, use_reentrant=False)
        return output


@singledispatch
def elastic(encoder: nn.Module) -> ElasticEncoder:
    """The elastic view of an image encoder; a family registers its own for its encoder's type.

    Raises:
        TypeError: no family is registered for this type.
    """
    raise TypeError(f"no family of elastic encoders is registered for {type(encoder).__name__}")
