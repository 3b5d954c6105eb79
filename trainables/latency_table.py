"""What the parts of an encoder take on one machine, and what any of its subnets takes by that.

Times add up; of memory, what is alive at once, the most of any part counts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from search_spaces.errors import InputError
from search_spaces.subnet import LayerSize, Subnet
from search_spaces.subnet_space import SubnetSpace
from trainables.json_text import parse_table

FORMAT = 2


@dataclass(frozen=True)
class Kind:
    """Blocks that take the same time, and how long by what is kept of one.

    Args:
        layers: which blocks of the parent.
        attention: what they attend to, for people.
        tokens: shape of the input of one picture.
        widths: neurons of the MLP that were measured, ascending; the last is the parent's own.
        heads: attention heads that were measured, ascending; the last is the parent's own. Empty
            where only all of them were.
        ms: milliseconds of one block: a row for each of `heads`, or the only one; in it an entry
            for each of `widths`. Empty before they were measured.
        peak_bytes: that are alive at most while it works on one picture, weights aside; as `ms`.
    """

    layers: tuple[int, ...]
    attention: str
    tokens: tuple[int, ...]
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...] = ()
    peak_bytes: tuple[tuple[float, ...], ...] = ()

    @property
    def sizes(self) -> list[list[LayerSize]]:
        """What was measured, as it stands in `ms` and `peak_bytes`."""
        return [[LayerSize(width, h) for width in self.widths] for h in self.heads or (None,)]

    def block_ms(self, width: int, heads: int | None = None) -> float:
        """Milliseconds of one block, linear between what was measured.

        Args:
            width: neurons of its MLP.
            heads: that attend; None: all.

        Raises:
            ValueError: outside what was measured.
        """
        return self._between(self.ms, width, heads)

    def block_bytes(self, width: int, heads: int | None = None) -> float:
        """Bytes alive at most during one block, as `block_ms`; between sizes rather too many."""
        return self._between(self.peak_bytes, width, heads)

    def _between(
        self, measured: tuple[tuple[float, ...], ...], width: int, heads: int | None
    ) -> float:
        for what, value, known in (("neurons", width, self.widths), ("heads", heads, self.heads)):
            if value is not None and not (known and known[0] <= value <= known[-1]):
                raise ValueError(
                    f"layers {self.layers} were not measured with {value} {what}, "
                    f"only with {known or 'all'}"
                )
        by_heads = [float(np.interp(width, self.widths, row)) for row in measured]
        return by_heads[-1] if heads is None else float(np.interp(heads, self.heads, by_heads))


@dataclass(frozen=True)
class LatencyTable:
    """What every subnet of an encoder takes on one machine: one picture, without gradients.

    Args:
        model: the parent, by name.
        image_size: side of the encoder's input, pixels.
        device: `cpu` or the GPU's name.
        threads: of the CPU.
        torch: its version.
        fixed_ms: milliseconds of what every subnet has: stem, steps between stages, head.
        fixed_peak_bytes: that are alive at most during any of these, weights aside.
        kinds: the blocks; each layer of the parent is in one.
    """

    model: str
    image_size: int
    device: str
    threads: int
    torch: str
    fixed_ms: float
    fixed_peak_bytes: float
    kinds: tuple[Kind, ...]

    def predict(self, subnet: Subnet) -> float:
        """Milliseconds of a subnet: what every subnet has, and each of its blocks.

        Raises:
            ValueError: the parent has no such layer, or its size is outside those measured.
        """
        sizes = subnet.sizes(self._full_heads)
        return self.fixed_ms + sum(self._kind(i).block_ms(*size) for i, size in sizes.items())

    def predict_peak_bytes(self, subnet: Subnet) -> float:
        """Bytes that are alive at most in a pass of a subnet over one picture, weights aside.

        Raises:
            ValueError: as `predict`.
        """
        sizes = subnet.sizes(self._full_heads)
        blocks = (self._kind(i).block_bytes(*size) for i, size in sizes.items())
        return max(self.fixed_peak_bytes, *blocks)

    def bounds(self, space: SubnetSpace) -> tuple[float, float]:
        """Least and most milliseconds that are predicted for a subnet of a space.

        Raises:
            ValueError: as `predict`.
        """
        least = most = self.fixed_ms
        for layer, offer in enumerate(space.offers):
            kind = self._kind(layer)
            times = [kind.block_ms(width, h) for width in offer.widths for h in offer.heads]
            least += 0.0 if offer.drop_probability > 0.0 else min(times)
            most += max(times)
        return least, most

    @property
    def parent(self) -> Subnet:
        """The parent as a subnet."""
        layers = range(len(self._by_layer))
        return Subnet(tuple(layers), tuple(self._by_layer[i].widths[-1] for i in layers))

    def _kind(self, layer: int) -> Kind:
        if layer not in self._by_layer:
            raise ValueError(f"there is no layer {layer}; {self.model} has {len(self._by_layer)}")
        return self._by_layer[layer]

    @cached_property
    def _by_layer(self) -> dict[int, Kind]:
        return {layer: kind for kind in self.kinds for layer in kind.layers}

    @cached_property
    def _full_heads(self) -> tuple[int, ...]:
        kinds = [self._by_layer[layer] for layer in sorted(self._by_layer)]
        return tuple(kind.heads[-1] for kind in kinds if kind.heads)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as it stands in `latency.json`."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; further entries are ignored.

        Raises:
            KeyError: a value is missing.
            ValueError: the format is another one.
        """
        if values["format"] != FORMAT:
            raise ValueError(f"format is {values['format']}, not {FORMAT}")
        known = {name: values[name] for name in cls.__dataclass_fields__ if name != "kinds"}
        kinds = [
            {name: kind[name] for name in Kind.__dataclass_fields__} for kind in values["kinds"]
        ]
        return cls(**known, kinds=tuple(Kind(**_with_tuples(kind)) for kind in kinds))

    @classmethod
    def load(cls, path: Path, model: str, image_size: int) -> Self:
        """Read a table from its JSON file.

        Raises:
            InputError: there is none, it can't be read, or it is of another model or size.
        """
        if not path.is_file():
            raise InputError(f"{path} does not exist; give the path of a latency table")
        try:
            table = cls.from_dict(parse_table(path.read_bytes()))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no latency table: {error}") from error
        if (table.model, table.image_size) != (model, image_size):
            raise InputError(
                f"{path} is of {table.model} at {table.image_size} px, not of {model} at "
                f"{image_size} px; measure that one"
            )
        return table


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return {**plain, **{name: tuple(map(tuple, values[name])) for name in ("ms", "peak_bytes")}}
