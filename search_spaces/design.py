"""Designs: how a `SubnetSpace` is drawn up, and the space of designs that the outer search covers.

SuperSAM's authors drew their spaces by hand; here the drop probabilities, the slice ratios and the
importance metric are themselves searched.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from search_spaces.content_key import content_key
from search_spaces.drop_probabilities import FLOOR, drop_probabilities
from search_spaces.subnet_space import SubnetSpace

Spacing = Literal["linear", "geometric"]
WIDTH_MULTIPLE = 8
"""MLP widths are rounded to this multiple, which matrix kernels prefer."""


def slice_ratios(count: int, smallest: float, spacing: Spacing) -> tuple[float, ...]:
    """Shares of the parent's MLP or attention on offer, ascending, from `smallest` to 1.

    Args:
        count: how many; 1 leaves the whole alone.
        smallest: in (0, 1].
        spacing: equal differences (linear) or equal quotients (geometric).
    """
    if count == 1:
        return (1.0,)
    steps = [i / (count - 1) for i in range(count)]
    if spacing == "linear":
        return tuple(smallest + (1 - smallest) * s for s in steps)
    return tuple(math.exp(math.log(smallest) * (1 - s)) for s in steps)


@dataclass(frozen=True)
class Design:
    """One way of drawing up a space.

    Args:
        metric: the score that orders the neurons of each MLP before it is sliced, and the heads.
        expected_dropped: layers that a random subnet goes without, on average.
        removable: how many layers may go at most.
        temperature: how sharply removal prefers layers of little worth; None where probabilities
            are given.
        cap: the highest drop probability of a layer.
        width_count: how many widths an MLP, and numbers of heads an attention, may have.
        smallest_ratio: the narrowest MLP as a share of the parent's.
        spacing: how those between are spaced.
        smallest_heads: the fewest attention heads as a share of the parent's; 1: all stay.
        protected: layers that always stay.
        protect_above: layers worth at least this share of the worthiest one always stay; None:
            no threshold.
        probabilities: given one by one, from layer 0 on; layers beyond the last always stay. Empty
            where the formula gives them.
    """

    metric: str
    expected_dropped: float
    removable: int
    temperature: float | None
    cap: float
    width_count: int
    smallest_ratio: float
    spacing: Spacing
    smallest_heads: float = 1.0
    protected: tuple[int, ...] = ()
    protect_above: float | None = None
    probabilities: tuple[float, ...] = ()

    @cached_property
    def key(self) -> str:
        """Content hash; every checkpoint, ledger row and MLflow run of a design carries it."""
        values = asdict(self)
        if self.smallest_heads == 1:  # a design without elastic heads keeps the key that it had
            del values["smallest_heads"]
        return content_key(values)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        lists = {"protected": list(self.protected), "probabilities": list(self.probabilities)}
        return {**asdict(self), **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; further entries are ignored.

        `smallest_heads` may be missing: files from before it was there have no elastic heads.
        """
        values = {**values, "smallest_heads": values.get("smallest_heads") or 1.0}
        known = {name: values[name] for name in cls.__dataclass_fields__}
        tuples = {name: tuple(known[name]) for name in ("protected", "probabilities")}
        return cls(**{**known, **tuples})

    def draw_up(
        self, worth: Sequence[float], full_widths: Sequence[int], full_heads: Sequence[int]
    ) -> SubnetSpace:
        """The space of this design.

        Args:
            worth: what removing each layer alone costs.
            full_widths: the parent's MLP width in each layer.
            full_heads: the parent's attention heads in each layer; empty where a subnet can't have
                fewer.
        """
        ratios = slice_ratios(self.width_count, self.smallest_ratio, self.spacing)
        shares = slice_ratios(self.width_count, self.smallest_heads, self.spacing)
        heads = tuple(_head_counts(full, shares) for full in full_heads)
        return SubnetSpace(
            tuple(_widths(full, ratios) for full in full_widths),
            self._drop_probabilities(worth),
            heads if any(len(counts) > 1 for counts in heads) else (),
        )

    def _drop_probabilities(self, worth: Sequence[float]) -> tuple[float, ...]:
        if self.temperature is None:
            return self.probabilities + (0.0,) * (len(worth) - len(self.probabilities))
        return drop_probabilities(
            worth,
            expected_dropped=self.expected_dropped,
            removable=self.removable,
            temperature=self.temperature,
            cap=self.cap,
            protected=self.protected,
            protect_above=self.protect_above,
        )


def _widths(full: int, ratios: Sequence[float]) -> tuple[int, ...]:
    rounded = {
        min(full, max(WIDTH_MULTIPLE, round(full * ratio / WIDTH_MULTIPLE) * WIDTH_MULTIPLE))
        for ratio in ratios
        if ratio < 1
    }
    return tuple(sorted(rounded | {full}))


def _head_counts(full: int, shares: Sequence[float]) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(full * share)) for share in shares} | {full}))


FORMULA = ("expected_dropped", "removable", "temperature", "cap")
"""The parameters of a design that make drop probabilities out of what layers are worth."""
RELEASED = {
    "removable": 5,
    "expected_dropped": 2.5,
    "cap": 0.5,
    "width_count": 4,
    "smallest_ratio": 0.25,
}
"""SuperSAM's released space, as far as a design's numbers can say it."""
RELEASED_LAYERS = {1: 0.5, 2: 0.5, 5: 0.5, 6: 0.5, 9: 0.5}
"""Its drop probabilities, for an encoder of twelve layers; the others always stay."""
_Probability = Annotated[float, Field(ge=0, lt=1)]
_Probabilities = Annotated[
    Annotated[_Probability, Tag("value")]
    | Annotated[list[_Probability], Field(min_length=1), Tag("values")],
    Discriminator(lambda given: "values" if isinstance(given, list | tuple) else "value"),
]


def probability_name(layer: int) -> str:
    """The flat key under which a searcher sees the drop probability of one layer."""
    return f"probability_{layer:02d}"


def _distance(wanted: float, value: float) -> float:
    return abs(value - wanted)


class DesignSpace(BaseModel):
    """The designs on offer: for each parameter of a `Design` the values to choose from.

    The first value of each list makes the design that is tried first. The others are the same for
    all designs:

    Args:
        protected: layers that always stay.
        protect_above: layers worth at least this share of the worthiest one always stay, too.
        probabilities: drop probabilities by layer, instead of the formula's; layers that are not
            named always stay. A layer with a list of them is a dimension of the search, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: list[str] = Field(["wanda", "magnitude"], min_length=1)
    expected_dropped: list[Annotated[float, Field(ge=0)]] = Field([2.0, 2.5, 1.5], min_length=1)
    removable: list[Annotated[int, Field(ge=0)]] = Field([5, 6, 4], min_length=1)
    temperature: list[Annotated[float, Field(gt=0)]] = Field([0.1, 0.02, 0.5], min_length=1)
    cap: list[Annotated[float, Field(ge=FLOOR, lt=1)]] = Field([0.5, 0.75], min_length=1)
    width_count: list[Annotated[int, Field(ge=1)]] = Field([4, 2, 3], min_length=1)
    smallest_ratio: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.25, 0.5], min_length=1)
    spacing: list[Spacing] = Field(["linear", "geometric"], min_length=1)
    smallest_heads: list[Annotated[float, Field(gt=0, le=1)]] = Field([1.0], min_length=1)
    protected: tuple[int, ...] = ()
    protect_above: float | None = Field(None, gt=0, le=1)
    probabilities: dict[Annotated[int, Field(ge=0)], _Probabilities] = {}

    @property
    def has_elastic_heads(self) -> bool:
        """Whether some design offers fewer attention heads than the parent has."""
        return min(self.smallest_heads) < 1

    @property
    def offered_probabilities(self) -> dict[int, tuple[float, ...]]:
        """The drop probabilities to choose from, by layer; empty where the formula gives them."""
        return {
            layer: tuple(given) if isinstance(given, list) else (given,)
            for layer, given in sorted(self.probabilities.items())
        }

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The flat form for a searcher: one categorical dimension a parameter.

        Where probabilities are given, the formula's parameters are no dimensions; a layer with
        several probabilities is one.
        """
        fixed = {"protected", "protect_above", "probabilities"}
        if self.probabilities:
            fixed.update(FORMULA)
        parameters = {
            name: tuple(getattr(self, name))
            for name in type(self).model_fields
            if name not in fixed
        }
        layers = {
            probability_name(layer): offered
            for layer, offered in self.offered_probabilities.items()
            if len(offered) > 1
        }
        return parameters | layers

    def design(self, flat: Mapping[str, Any]) -> Design:
        """The design of a point of `choices()`."""
        if not self.probabilities:
            return Design(**flat, protected=self.protected, protect_above=self.protect_above)
        offers = self.offered_probabilities
        chosen = {i: flat.get(probability_name(i), offered[0]) for i, offered in offers.items()}
        given = tuple(chosen.get(i, 0.0) for i in range(max(chosen) + 1))
        names = {probability_name(i) for i in offers}
        return Design(
            **{name: value for name, value in flat.items() if name not in names},
            expected_dropped=round(sum(given), 6),
            removable=sum(p > 0 for p in given),
            temperature=None,
            cap=max(given),
            probabilities=given,
        )

    def flat(self, design: Design) -> dict[str, Any]:
        """The point of `choices()` that stands for a design; the inverse of `design`."""
        layers = {probability_name(i): p for i, p in enumerate(design.probabilities)}
        return {
            name: layers[name] if name in layers else getattr(design, name)
            for name in self.choices()
        }

    def first_points(self) -> list[dict[str, Any]]:
        """Where the search starts: the default, a space like SuperSAM's released one, a sliced one.

        The sliced one is there where `removable` offers 0: every layer stays, with MLPs as narrow
        and heads as few as are on offer. It suits encoders that no block can be taken out of.

        For an encoder of twelve layers that one drops layers 1, 2, 5, 6 and 9 with probability 0.5
        each, and has MLPs of 768, 1020, 1536 or 2304 of 3072 neurons, all of them in the largest
        subnet only. The second point is the nearest to it on offer. It differs in this: the five
        layers are those that were measured to be worth least, unless probabilities are given, and
        then those of the five that are on offer; the widths are 768, 1536, 2304 and 3072, evenly
        spaced, and the full one is as frequent as any other.
        """
        choices = self.choices()
        default = {name: values[0] for name, values in choices.items()}
        layers = {
            probability_name(i): RELEASED_LAYERS.get(i, 0.0) for i in self.offered_probabilities
        }
        nearest = {
            name: min(choices[name], key=partial(_distance, wanted))
            for name, wanted in (RELEASED | layers).items()
            if name in choices
        }
        released = default | nearest
        if "temperature" in choices:  # the coldest gives the least worthy layers equal shares
            released["temperature"] = min(self.temperature)
        if "linear" in self.spacing:
            released["spacing"] = "linear"
        points = [default, released]
        if 0 in choices.get("removable", ()):
            least = {name: min(choices[name]) for name in ("smallest_ratio", "smallest_heads")}
            points.append({**default, "removable": 0, **least})
        return [point for i, point in enumerate(points) if point not in points[:i]]
