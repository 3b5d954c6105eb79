"""The space that subnets are drawn from; as points of flat categories, for searchers."""

import math
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

from search_spaces.content_key import content_key
from search_spaces.subnet import LayerSize, Subnet

REMOVED = 0
"""The width that stands for "this layer is removed" in the flat form of a subnet."""


def width_name(layer: int) -> str:
    """The flat key under which a searcher sees the width of one layer."""
    return f"layer_{layer:02d}.width"


def heads_name(layer: int) -> str:
    """The flat key under which a searcher sees the heads of one layer."""
    return f"layer_{layer:02d}.heads"


class LayerOffer(NamedTuple):
    """What a space offers for a layer; of heads (None,), all, where they are not elastic."""

    widths: tuple[int, ...]
    heads: tuple[int | None, ...]
    drop_probability: float


@dataclass(frozen=True)
class SubnetSpace:
    """All subnets that a supernet is trained for.

    Args:
        widths: for each layer of the parent the MLP widths on offer, ascending; the last is the
            parent's own.
        drop_probabilities: for each layer the probability that a random subnet goes without it;
            0 keeps the layer in every subnet.
        heads: for each layer of the parent the numbers of attention heads on offer, ascending; the
            last is the parent's own. Empty where heads are not elastic.

    Raises:
        ValueError: lengths differ, a list of widths or heads is empty or unordered, a probability
            is outside [0, 1), or no layer is sure to stay.
    """

    widths: tuple[tuple[int, ...], ...]
    drop_probabilities: tuple[float, ...]
    heads: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.drop_probabilities):
            raise ValueError("a space needs one drop probability for each layer")
        if self.heads and len(self.widths) != len(self.heads):
            raise ValueError("a space needs heads for each layer, or for none")
        for name, offered in (("widths", self.widths), ("heads", self.heads)):
            if any(not o or list(o) != sorted(set(o)) or o[0] < 1 for o in offered):
                raise ValueError(f"{name} must be ascending, distinct and positive: {offered}")
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
    def full_heads(self) -> tuple[int, ...]:
        """The parent's heads in each layer; empty where they are not elastic."""
        return tuple(offered[-1] for offered in self.heads)

    @property
    def offers(self) -> Iterator[LayerOffer]:
        """What is on offer, layer by layer."""
        heads = self.heads or ((None,),) * self.depth
        for layer in zip(self.widths, heads, self.drop_probabilities, strict=True):
            yield LayerOffer(*layer)

    @cached_property
    def largest(self) -> Subnet:
        """The parent itself."""
        sizes = {i: LayerSize(o.widths[-1], o.heads[-1]) for i, o in enumerate(self.offers)}
        return Subnet.of(sizes, self.full_heads)

    @cached_property
    def smallest(self) -> Subnet:
        """Every removable layer gone, the others at their narrowest: inside every other."""
        return self.narrowest_without(self.removable)

    def narrowest_without(self, gone: Collection[int]) -> Subnet:
        """All layers but those `gone`, each with the narrowest MLP and the fewest heads."""
        sizes = {i: LayerSize(o.widths[0], o.heads[0]) for i, o in enumerate(self.offers)}
        return Subnet.of(sizes, self.full_heads).without(gone, self.full_heads)

    @cached_property
    def size(self) -> int:
        """How many distinct subnets there are."""
        return math.prod(
            len(o.widths) * len(o.heads) + (o.drop_probability > 0.0) for o in self.offers
        )

    @cached_property
    def key(self) -> str:
        """Content hash; every checkpoint of a supernet carries its space's."""
        return content_key(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as it stands in checkpoints; `heads` only where they are elastic."""
        heads = {"heads": [list(h) for h in self.heads]} if self.heads else {}
        return {
            "widths": [list(w) for w in self.widths],
            "drop_probabilities": list(self.drop_probabilities),
            **heads,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            tuple(tuple(int(w) for w in widths) for widths in values["widths"]),
            tuple(float(p) for p in values["drop_probabilities"]),
            tuple(tuple(int(h) for h in heads) for heads in values.get("heads", ())),
        )

    def sample(self, rng: random.Random) -> Subnet:
        """Draw a subnet: each layer is dropped by its own probability, the rest is uniform."""
        flat = {}
        for layer, offer in enumerate(self.offers):
            if rng.random() < offer.drop_probability:
                flat[width_name(layer)] = REMOVED
                continue
            flat[width_name(layer)] = rng.choice(offer.widths)
            if self.heads:
                flat[heads_name(layer)] = rng.choice(self.heads[layer])
        return self.from_flat(flat)

    def ladder(self, rungs: int) -> list[Subnet]:
        """Evenly shrunk subnets from the largest to the smallest, both included.

        Layers go in the order of their drop probability, all MLPs and attentions shrink together.
        These are the points that a search starts from.
        """
        order = sorted(self.removable, key=lambda i: (-self.drop_probabilities[i], i))
        subnets = []
        for rung in range(rungs):
            share = rung / (rungs - 1) if rungs > 1 else 0.0
            gone = set(order[: round(share * len(order))])
            sizes = {
                layer: LayerSize(
                    offer.widths[round((1 - share) * (len(offer.widths) - 1))],
                    offer.heads[round((1 - share) * (len(offer.heads) - 1))],
                )
                for layer, offer in enumerate(self.offers)
                if layer not in gone
            }
            subnets.append(Subnet.of(sizes, self.full_heads))
        return list(dict.fromkeys(subnets))

    def contains(self, subnet: Subnet) -> bool:
        """Whether a random subnet of this space can be `subnet`."""
        if max(subnet.layers) >= self.depth or (subnet.heads and not self.heads):
            return False
        kept = subnet.sizes(self.full_heads)
        return all(
            kept[i].mlp_width in o.widths and (kept[i].heads or o.heads[-1]) in o.heads
            if i in kept
            else o.drop_probability > 0.0
            for i, o in enumerate(self.offers)
        )

    def choices(self) -> dict[str, tuple[int, ...]]:
        """The flat form for a searcher: a categorical dimension a layer, another for its heads.

        A removable layer offers `REMOVED` beside its widths, so that no two points stand for the
        same subnet; but the heads of a layer that is removed say nothing. What is without a choice
        has no dimension.
        """
        options: dict[str, tuple[int, ...]] = {}
        for layer, offer in enumerate(self.offers):
            removed = (REMOVED,) if offer.drop_probability > 0.0 else ()
            options[width_name(layer)] = removed + offer.widths
            if self.heads:
                options[heads_name(layer)] = self.heads[layer]
        return {name: offered for name, offered in options.items() if len(offered) > 1}

    def to_flat(self, subnet: Subnet) -> dict[str, int]:
        """The point of `choices()` that stands for `subnet`; a removed layer has all its heads."""
        sizes, flat = subnet.sizes(self.full_heads), {}
        for layer in range(self.depth):
            size = sizes.get(layer, LayerSize(REMOVED))
            flat[width_name(layer)] = size.mlp_width
            if self.heads:
                flat[heads_name(layer)] = size.heads or self.full_heads[layer]
        return {name: flat[name] for name in self.choices()}

    def from_flat(self, flat: Mapping[str, int]) -> Subnet:
        """The subnet of a point of `choices()`; layers that are not named stay whole."""
        sizes = {}
        for layer, offer in enumerate(self.offers):
            width = int(flat.get(width_name(layer), offer.widths[-1]))
            heads = flat.get(heads_name(layer))
            if width != REMOVED:
                sizes[layer] = LayerSize(width, None if heads is None else int(heads))
        return Subnet.of(sizes, self.full_heads)
