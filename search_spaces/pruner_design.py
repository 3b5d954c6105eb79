"""Designs of a pruner: the form of its visual prompt, the shape of its hypernetwork, how it cuts.

What PASS (arXiv 2407.17412) leaves open, or ablates, is a dimension of the search.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from search_spaces.content_key import content_key

PromptForm = Literal["pad", "full", "patch", "none"]
Recurrence = Literal["lstm", "none"]
Allocation = Literal["global", "uniform"]
STATISTICS = ("l2", "mean_abs", "std", "read_l2", "norm_scale")
"""Of weights; `trainables/channel_pruning/weight_statistics.py` says what they are."""
SIZED: tuple[PromptForm, ...] = ("pad", "patch")
"""Forms of a prompt that have a size."""


@dataclass(frozen=True)
class PrunerDesign:
    """One pruner.

    Args:
        prompt: form of the visual prompt: a frame (`pad`), the whole picture, a patch, or none.
        prompt_size: thickness of the frame, or side of the patch, pixels; 0 where there is neither.
        hidden: width of the recurrent network.
        statistics: of the weights, which it is told; none: it knows a layer by its place alone.
        recurrence: `lstm`, or `none`: each group of channels is scored by itself.
        allocation: how channels are cut while it learns: by one threshold for all groups, or the
            same share of each.
    """

    prompt: PromptForm
    prompt_size: int
    hidden: int
    statistics: tuple[str, ...]
    recurrence: Recurrence
    allocation: Allocation

    @cached_property
    def key(self) -> str:
        """Content hash; every checkpoint, ledger row and MLflow run of a design carries it."""
        return content_key(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "statistics": list(self.statistics)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; further entries are ignored."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "statistics": tuple(known["statistics"])})


class PrunerSpace(BaseModel):
    """The designs on offer: for each parameter of a `PrunerDesign` the values to choose from.

    The first value of each list makes the design that is tried first. Weight statistics are names
    joined by `+`, such as `l2+std`, or `none`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: list[PromptForm] = Field(["pad", "full", "patch", "none"], min_length=1)
    prompt_size: list[Annotated[int, Field(ge=1)]] = Field([4, 2, 8], min_length=1)
    hidden: list[Annotated[int, Field(ge=1)]] = Field([128, 64], min_length=1)
    statistics: list[str] = Field(
        ["l2+mean_abs+std", "l2+mean_abs+std+read_l2+norm_scale", "none"], min_length=1
    )
    recurrence: list[Recurrence] = Field(["lstm", "none"], min_length=1)
    allocation: list[Allocation] = Field(["global", "uniform"], min_length=1)

    @field_validator("statistics")
    @classmethod
    def _known(cls, offered: list[str]) -> list[str]:
        named = [name for each in offered if each != "none" for name in each.split("+")]
        unknown = [name for name in named if name not in STATISTICS]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is no weight statistic; join some of {', '.join(STATISTICS)} by "
                "+, or give none"
            )
        return offered

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The flat form for a searcher: one categorical dimension a parameter."""
        return {name: tuple(getattr(self, name)) for name in type(self).model_fields}

    def design(self, flat: Mapping[str, Any]) -> PrunerDesign:
        """The design of a point of `choices()`; a prompt without a size has size 0."""
        named = flat["statistics"]
        return PrunerDesign(
            prompt=flat["prompt"],
            prompt_size=flat["prompt_size"] if flat["prompt"] in SIZED else 0,
            hidden=flat["hidden"],
            statistics=() if named == "none" else tuple(named.split("+")),
            recurrence=flat["recurrence"],
            allocation=flat["allocation"],
        )

    def flat(self, design: PrunerDesign) -> dict[str, Any]:
        """A point of `choices()` that stands for a design."""
        return {
            **{name: getattr(design, name) for name in self.choices()},
            "prompt_size": design.prompt_size or self.prompt_size[0],
            "statistics": "+".join(design.statistics) or "none",
        }

    def first_points(self) -> list[dict[str, Any]]:
        """Where the search starts: the first of all values, then the plainest design on offer.

        That one shows what prompt, recurrence and statistics are worth.
        """
        default = {name: values[0] for name, values in self.choices().items()}
        plain = {
            name: "none"
            for name in ("prompt", "recurrence", "statistics")
            if "none" in getattr(self, name)
        }
        points = [default, default | plain]
        return [point for i, point in enumerate(points) if point not in points[:i]]
