"""The SAMs that are known by name; another one is named by the file that defines it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from search_spaces.errors import InputError
from trainables.own_code import file_module
from trainables.sam.family import EncoderConfig
from trainables.sam.mobile_sam import TinyViTConfig
from trainables.sam.vit import ViTConfig

STRIDE = 16
"""Pixels of the input for each cell of a SAM's image embedding, along either side."""

PARENTS: Mapping[str, EncoderConfig] = {
    "vit_t": ViTConfig(256, (704,) * 12, 176, 4, (2, 5, 8, 11), window_size=8),
    "vit_b": ViTConfig(1024, (3072,) * 12, 768, 12, (2, 5, 8, 11)),
    "vit_l": ViTConfig(1024, (4096,) * 24, 1024, 16, (5, 11, 17, 23)),
    "vit_h": ViTConfig(1024, (5120,) * 32, 1280, 16, (7, 15, 23, 31)),
    "mobile_sam": TinyViTConfig(1024, (512,) * 2 + (640,) * 6 + (1280,) * 2),
}
"""The image encoder of each; the input size is that of its checkpoint."""


def parent_encoder(model: str, image_size: int | None = None) -> EncoderConfig:
    """The encoder of a parent, at another input size where one is given.

    Args:
        model: a name of `PARENTS`, or `FILE.py:NAME`, where NAME is an `EncoderConfig` in FILE.
        image_size: pixels.

    Raises:
        InputError: the name is unknown, the file defines no such thing, or the size does not fit.
    """
    known = PARENTS.get(model) or _from_file(model)
    size = image_size or known.image_size
    if size % STRIDE:
        raise InputError(f"image_size: {size} is not a multiple of {STRIDE}")
    return replace(known, image_size=size)


def _from_file(model: str) -> EncoderConfig:
    file, _, name = model.rpartition(":")
    if not file.endswith(".py"):
        raise InputError(
            f"model: {model!r} is unknown; choose from {', '.join(PARENTS)}, or name a family of "
            "your own as FILE.py:NAME"
        )
    found = getattr(file_module(Path(file), "model"), name, None)
    if not isinstance(found, EncoderConfig):
        raise InputError(f"model: {file} defines no EncoderConfig {name!r}")
    return found
