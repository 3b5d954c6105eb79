"""What a family of SAM image encoders is to the rest of the house: a configuration that builds it.

A family is a subclass of `EncoderConfig`, which builds encoders and their subnets, and one of
`ElasticEncoder`, which runs them. `vit.py` is SAM's own, `mobile_sam.py` MobileSAM's.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from search_spaces.subnet import Subnet

FAMILIES: dict[str, type["EncoderConfig"]] = {}
"""All families that were imported, by the name that `subnet.json` has."""


@dataclass(frozen=True)
class EncoderConfig(ABC):
    """The shape of an image encoder; it describes a parent and, reduced, each of its subnets.

    Subclasses are frozen dataclasses of numbers and tuples of numbers.

    Args:
        image_size: side of the square input, pixels; a multiple of 16, as SAM's embedding is that
            much smaller.
        mlp_widths: hidden neurons of each layer's MLP; as many as there are layers.
    """

    image_size: int
    mlp_widths: tuple[int, ...]

    family: ClassVar[str]
    unused: ClassVar[tuple[str, ...]] = ()
    """How the names of tensors begin that published checkpoints have and the encoder never uses."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "family" in cls.__dict__:  # one that names none is of its parent's family
            FAMILIES[cls.family] = cls

    @abstractmethod
    def build(self) -> nn.Module:
        """The encoder with fresh weights: [B, 3, S, S] to [B, 256, S/16, S/16].

        It has an attribute `img_size`, which segment_anything reads.
        """

    @abstractmethod
    def reduced(self, subnet: Subnet) -> Self:
        """The shape of a subnet that stands alone: only its layers, at their widths."""

    def fit(self, name: str, tensor: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """A checkpoint's tensor for another input size; None where it can't be made to fit.

        Args:
            name: within the encoder.
            tensor: of another shape than the encoder has.
            size: the encoder's shape.
        """
        return None

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.mlp_widths)

    @property
    def full_heads(self) -> tuple[int, ...]:
        """Attention heads of each layer; empty, as here: a subnet can't have fewer."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"family": self.family, **values}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "EncoderConfig":
        """The inverse of `to_dict`.

        A field that was not there yet when a file was written has its default.

        Raises:
            KeyError: the family is unknown, or a value is missing.
        """
        if values["family"] not in FAMILIES:
            raise KeyError(f"family {values['family']!r}; import the file that defines it first")
        kind = FAMILIES[values["family"]]
        known = {
            f.name: values[f.name] for f in fields(kind) if f.name in values or f.default is MISSING
        }
        fitting: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in known.items()
        }
        return kind(**fitting)
