"""A table of tuned plans: for a shape, a type and a device those that are worth having."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.conv_plan import ConvPlan, default_plan
from search_spaces.conv_shape import ConvShape
from search_spaces.errors import InputError
from trainables.device_name import device_name

Prefer = Literal["speed", "memory"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MOST_BYTES = 16 << 20
"""Of a file: one layer takes about a thousand."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TunedPlan(_Part):
    """A plan and what it took.

    Args:
        plan: how the convolution is computed.
        latency_ms: median milliseconds.
        peak_bytes: at most in use beyond pictures and weights.
    """

    plan: ConvPlan
    latency_ms: Positive
    peak_bytes: int = Field(ge=0)


class TunedLayer(_Part):
    """The front of one convolution: no plan of it is beaten in both, time and memory.

    Args:
        name: for people.
        shape: of the convolution.
        device: where it was measured; see `device_name`.
        dtype: of the tensors, such as float32.
        plans: at least one.
    """

    name: str
    shape: ConvShape
    device: str
    dtype: str
    plans: tuple[TunedPlan, ...] = Field(min_length=1)


class TunedTable(_Part):
    """Plans of convolutions that were tuned. `conv2d` takes it in the place of a plan.

    Args:
        format: of the file.
        layers: each shape once for a device and a type.
        prefer: which plan of a front `plan_for` gives: the fastest, or that of the least memory.
    """

    format: Literal["im2win-plans-1"] = "im2win-plans-1"
    layers: tuple[TunedLayer, ...]
    prefer: Prefer = "speed"

    def preferring(self, prefer: Prefer) -> Self:
        """The same table, with another preference."""
        return self.model_copy(update={"prefer": prefer})

    def plan_for(self, shape: ConvShape, device: torch.device, dtype: torch.dtype) -> ConvPlan:
        """The plan of a shape, batch included, on a device; `default_plan` where none was tuned."""
        found = self._known.get((shape, device_name(device), _name_of(dtype)))
        if found is None:
            return default_plan(shape)
        fast = self.prefer == "speed"
        best = min(found.plans, key=lambda p: p.latency_ms if fast else p.peak_bytes)
        return best.plan

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a table that was saved.

        Raises:
            InputError: there is none, it can't be read, or it is something else.
        """
        try:
            if path.stat().st_size > MOST_BYTES:
                raise InputError(f"{path} is no table of tuned plans: it has too many bytes")
            table = cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            mistake = error.errors(include_url=False)[0]
            place = ".".join(map(str, mistake["loc"]))
            raise InputError(
                f"{path} is no table of tuned plans: {f'{place}: ' if place else ''}"
                f"{mistake['msg']}"
            ) from error
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; give a table of tuned plans") from error
        if len(table._known) < len(table.layers):
            raise InputError(f"{path} is no table of tuned plans: it has one of its layers twice")
        return table

    @cached_property
    def _known(self) -> dict[tuple[ConvShape, str, str], TunedLayer]:
        return {(layer.shape, layer.device, layer.dtype): layer for layer in self.layers}


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
