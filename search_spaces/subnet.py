"""Subnets of a weight-sharing encoder.

Two elastic dimensions are those of SuperSAM (arXiv 2501.08504): whole layers are removed, and the
MLP of a layer that stays is sliced to its first neurons. A third is there where a space offers it:
the attention of a layer that stays is sliced to its first heads.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

from search_spaces.content_key import content_key


class LayerSize(NamedTuple):
    """What a subnet keeps of a layer: neurons of its MLP, and attention heads; None: all heads."""

    mlp_width: int
    heads: int | None = None


@dataclass(frozen=True)
class Subnet:
    """Which layers of the parent stay, how wide each one's MLP is, how many heads attend.

    Args:
        layers: kept layers, ascending 0-based indices in the parent; at least one.
        mlp_widths: hidden neurons of each kept layer's MLP, one per entry of `layers`.
        heads: attention heads of each kept layer, one per entry of `layers`. Empty where every
            layer has all of the parent's, and only there, so that equal subnets have equal keys;
            `of` sees to it.

    Raises:
        ValueError: lengths differ, there is no layer, or layers are out of order.
    """

    layers: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers or len(self.layers) != len(self.mlp_widths):
            raise ValueError(f"a subnet needs one MLP width for each kept layer: {self}")
        if list(self.layers) != sorted(set(self.layers)) or min(self.layers) < 0:
            raise ValueError(f"kept layers must be ascending and distinct: {self.layers}")
        if min(self.mlp_widths) < 1:
            raise ValueError(f"an MLP needs at least one neuron: {self.mlp_widths}")
        if self.heads and (len(self.layers) != len(self.heads) or min(self.heads) < 1):
            raise ValueError(f"each kept layer needs an attention head, or none is named: {self}")

    @classmethod
    def of(cls, sizes: Mapping[int, LayerSize], full_heads: Sequence[int]) -> Self:
        """The inverse of `sizes`.

        Args:
            sizes: what is kept of each kept layer, ascending.
            full_heads: heads of each layer of the parent; empty where they are not elastic.
        """
        full = {layer: full_heads[layer] for layer in sizes} if full_heads else {}
        heads = {layer: sizes[layer].heads or count for layer, count in full.items()}
        widths = tuple(size.mlp_width for size in sizes.values())
        return cls(tuple(sizes), widths, () if heads == full else tuple(heads.values()))

    def sizes(self, full_heads: Sequence[int]) -> dict[int, LayerSize]:
        """What is kept of each kept layer, in their order.

        Args:
            full_heads: heads of each layer of the parent; empty where they are not elastic.

        Raises:
            ValueError: the subnet names heads, and they are not elastic.
        """
        if not self.heads:
            widths = zip(self.layers, self.mlp_widths, strict=True)
            return {layer: LayerSize(width) for layer, width in widths}
        if not full_heads:
            raise ValueError(f"heads are not elastic here: {self}")
        kept = zip(self.layers, self.mlp_widths, self.heads, strict=True)
        return {
            layer: LayerSize(width, None if heads == full_heads[layer] else heads)
            for layer, width, heads in kept
        }

    def without(self, gone: Collection[int], full_heads: Sequence[int]) -> Self:
        """The subnet without some of its layers; `full_heads` as `of` takes them."""
        sizes = self.sizes(full_heads)
        left = {layer: size for layer, size in sizes.items() if layer not in gone}
        return self.of(left, full_heads)

    @property
    def depth(self) -> int:
        """The number of kept layers."""
        return len(self.layers)

    @cached_property
    def key(self) -> str:
        """Content hash: equal subnets have equal keys."""
        lists = [self.layers, self.mlp_widths]
        return content_key([*lists, self.heads] if self.heads else lists)

    def to_dict(self) -> dict[str, list[int]]:
        """The JSON form, as it stands in `subnet.json` and in the tables."""
        return {
            "layers": list(self.layers),
            "mlp_widths": list(self.mlp_widths),
            "heads": list(self.heads),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; further entries are ignored, and `heads` may be missing."""
        return cls(
            tuple(int(layer) for layer in values["layers"]),
            tuple(int(width) for width in values["mlp_widths"]),
            tuple(int(heads) for heads in values.get("heads") or ()),
        )
