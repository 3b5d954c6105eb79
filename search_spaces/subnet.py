"""Subnets of a weight-sharing encoder, and the space that they are drawn from.

The two elastic dimensions are those of SuperSAM (arXiv 2501.08504): whole layers are removed, and
the MLP of a layer that stays is sliced to its first neurons.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from search_spaces.content_key import content_key

REMOVED = 0
"""The width that stands for "this layer is removed" in the flat form of a subnet."""


@dataclass(frozen=True)
class Subnet:
    """Which layers of the parent stay, and how wide each one's MLP is.

    Args:
        layers: kept layers, ascending 0-based indices in the parent; at least one.
        mlp_widths: hidden neurons of each kept layer's MLP, one per entry of `layers`.

    Raises:
        ValueError: the two differ in length, are empty, or are out of order.
    """

    layers: tuple[int, ...]
    mlp_widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.layers or len(self.layers) != len(self.mlp_widths):
            raise ValueError(f"a subnet needs one MLP width for each kept layer: {self}")
        if list(self.layers) != sorted(set(self.layers)) or min(self.layers) < 0:
            raise ValueError(f"kept layers must be ascending and distinct: {self.layers}")
        if min(self.mlp_widths) < 1:
            raise ValueError(f"an MLP needs at least one neuron: {self.mlp_widths}")

    @property
    def depth(self) -> int:
        """The number of kept layers."""
        return len(self.layers)

    @cached_property
    def key(self) -> str:
        """Content hash: equal subnets have equal keys."""
        return content_key([self.layers, self.mlp_widths])

    def to_dict(self) -> dict[str, list[int]]:
        """The JSON form, as it stands in `subnet.json` and in the tables."""
        return {"layers": list(self.layers), "mlp_widths": list(self.mlp_widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; further entries are ignored."""
        return cls(
            tuple(int(layer) for layer in values["layers"]),
            tuple(int(width) for width in values["mlp_widths"]),
        )


def dimension_name(layer: int) -> str:
    """The flat key under which a searcher sees the width of one layer."""
    return f"layer_{layer:02d}.width"


@dataclass(frozen=True)
class SubnetSpace:
    """All subnets that a supernet is trained for.

    Args:
        widths: for each layer of the parent the MLP widths on offer, ascending; the last is the
            parent's own.
        drop_probabilities: for each layer the probability that a random subnet goes without it;
            0 keeps the layer in every subnet.

    Raises:
        ValueError: lengths differ, a width list is empty or unordered, a probability is outside
            [0, 1), or no layer is sure to stay.
    """

    widths: tuple[tuple[int, ...], ...]
    drop_probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.drop_probabilities):
            raise ValueError("a space needs one drop probability for each layer")
        if any(not w or list(w) != sorted(set(w)) for w in self.widths):
            raise ValueError(f"widths must be ascending and distinct: {self.widths}")
        if any(not 0.0 <= p < 1.0 for p in self.drop_probabilities):
            raise ValueError(f"drop probabilities lie in [0, 1): {self.drop_probabilities}")
        if all(p > 0.0 for p in self.drop_probabilities):
            raise ValueError("at least one layer must have drop probability 0")

    @property
    def depth(self) -> int:
        """The number of layers of the parent."""
        return len(self.widths)

    @property
    def removable(self) -> tuple[int, ...]:
        """Layers that some subnet goes without, ascending."""
        return tuple(i for i, p in enumerate(self.drop_probabilities) if p > 0.0)

    @cached_property
    def largest(self) -> Subnet:
        """The parent itself."""
        return Subnet(tuple(range(self.depth)), tuple(w[-1] for w in self.widths))

    @cached_property
    def smallest(self) -> Subnet:
        """Every removable layer gone, the narrowest MLP in the others: inside every other."""
        kept = tuple(i for i, p in enumerate(self.drop_probabilities) if p == 0.0)
        return Subnet(kept, tuple(self.widths[i][0] for i in kept))

    @cached_property
    def size(self) -> int:
        """How many distinct subnets there are."""
        return math.prod(
            len(w) + (p > 0.0) for w, p in zip(self.widths, self.drop_probabilities, strict=True)
        )

    @cached_property
    def key(self) -> str:
        """Content hash; every checkpoint of a supernet carries its space's."""
        return content_key(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as it stands in checkpoints."""
        return {
            "widths": [list(w) for w in self.widths],
            "drop_probabilities": list(self.drop_probabilities),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            tuple(tuple(int(w) for w in widths) for widths in values["widths"]),
            tuple(float(p) for p in values["drop_probabilities"]),
        )

    def sample(self, rng: random.Random) -> Subnet:
        """Draw a subnet: each layer is dropped by its own probability, widths are uniform."""
        flat = {}
        for layer, (widths, p) in enumerate(zip(self.widths, self.drop_probabilities, strict=True)):
            dropped = rng.random() < p
            flat[dimension_name(layer)] = REMOVED if dropped else rng.choice(widths)
        return self.from_flat(flat)

    def ladder(self, rungs: int) -> list[Subnet]:
        """Evenly shrunk subnets from the largest to the smallest, both included.

        Layers go in the order of their drop probability, all MLPs shrink together. These are the
        points that a search starts from.
        """
        order = sorted(self.removable, key=lambda i: (-self.drop_probabilities[i], i))
        subnets = []
        for rung in range(rungs):
            share = rung / (rungs - 1) if rungs > 1 else 0.0
            gone = set(order[: round(share * len(order))])
            kept = tuple(i for i in range(self.depth) if i not in gone)
            widths = tuple(
                self.widths[i][round((1 - share) * (len(self.widths[i]) - 1))] for i in kept
            )
            subnets.append(Subnet(kept, widths))
        return list(dict.fromkeys(subnets))

    def contains(self, subnet: Subnet) -> bool:
        """Whether a random subnet of this space can be `subnet`."""
        kept = dict(zip(subnet.layers, subnet.mlp_widths, strict=True))
        if max(kept) >= self.depth:
            return False
        return all(
            kept[i] in widths if i in kept else p > 0.0
            for i, (widths, p) in enumerate(zip(self.widths, self.drop_probabilities, strict=True))
        )

    def choices(self) -> dict[str, tuple[int, ...]]:
        """The flat form for a searcher: one categorical dimension a layer.

        A removable layer offers `REMOVED` beside its widths, so that no two points of the flat
        space stand for the same subnet. Layers without a choice have no dimension.
        """
        options = {}
        for layer, (widths, p) in enumerate(zip(self.widths, self.drop_probabilities, strict=True)):
            offered = ((REMOVED,) if p > 0.0 else ()) + widths
            if len(offered) > 1:
                options[dimension_name(layer)] = offered
        return options

    def to_flat(self, subnet: Subnet) -> dict[str, int]:
        """The point of `choices()` that stands for `subnet`."""
        kept = dict(zip(subnet.layers, subnet.mlp_widths, strict=True))
        return {
            name: kept.get(int(name.split(".")[0].removeprefix("layer_")), REMOVED)
            for name in self.choices()
        }

    def from_flat(self, flat: Mapping[str, int]) -> Subnet:
        """The subnet of a point of `choices()`; layers that are not named stay at full width."""
        pairs = [
            (layer, int(flat.get(dimension_name(layer), widths[-1])))
            for layer, widths in enumerate(self.widths)
        ]
        kept = [(layer, width) for layer, width in pairs if width != REMOVED]
        return Subnet(tuple(layer for layer, _ in kept), tuple(width for _, width in kept))
