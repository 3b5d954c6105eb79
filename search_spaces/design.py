"""Designs: how a `SubnetSpace` is drawn up, and the space of designs that the outer search covers.

SuperSAM's authors drew their spaces by hand; here the drop probabilities, the slice ratios and the
importance metric are themselves searched.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

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


class DesignSpace(BaseModel):
    """The designs on offer: for each parameter of a `Design` the values to choose from.

    The first value of each list makes the design that is tried first. The others are the same for
    all designs:

    Args:
        protected: layers that always stay.
        protect_above: layers worth at least this share of the worthiest one always stay, too.
        probabilities: drop probabilities by layer, instead of the formula's; layers that are not
            named always stay.
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
    probabilities: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0, lt=1)]] = {}

    @property
    def has_elastic_heads(self) -> bool:
        """Whether some design offers fewer attention heads than the parent has."""
        return min(self.smallest_heads) < 1

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The flat form for a searcher: one categorical dimension a parameter.

        Where probabilities are given, the formula's parameters are no dimensions.
        """
        fixed = {"protected", "protect_above", "probabilities"}
        if self.probabilities:
            fixed.update(FORMULA)
        return {
            name: tuple(getattr(self, name))
            for name in type(self).model_fields
            if name not in fixed
        }

    def design(self, flat: Mapping[str, Any]) -> Design:
        """The design of a point of `choices()`."""
        if not self.probabilities:
            return Design(**flat, protected=self.protected, protect_above=self.protect_above)
        given = tuple(self.probabilities.get(i, 0.0) for i in range(max(self.probabilities) + 1))
        return Design(
            **flat,
            expected_dropped=round(sum(given), 6),
            removable=sum(p > 0 for p in given),
            temperature=None,
            cap=max(given),
            probabilities=given,
        )

    def first_points(self) -> list[dict[str, Any]]:
        """Where the search starts: the default, then a space like the one that the paper released.

        The latter drops the least worthy layers with equal, high probability.
        """
        default = {name: values[0] for name, values in self.choices().items()}
        if self.probabilities:
            return [default]
        released = {
            **default,
            "temperature": min(self.temperature),
            "expected_dropped": min(self.expected_dropped, key=lambda value: abs(value - 2.5)),
        }
        return [default] if released == default else [default, released]
