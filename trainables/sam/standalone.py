"""Subnets as models of their own: an ordinary `Sam` with a smaller encoder, on disk and back.

A folder holds `model.safetensors` and `subnet.json`; nothing is pickled.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.json_text import parse_table
from trainables.sam.encoder import elastic
from trainables.sam.family import EncoderConfig
from trainables.sam.models import build_sam, save_state_dict
from trainables.sam.segment_anything_import import Sam
from trainables.sam.units import copy_first

FORMAT = 1
LARGEST = 1 << 14
"""Of the sizes in `subnet.json`; those of the largest SAM end at 5120."""


@torch.no_grad()
def extract(sam: Sam, config: EncoderConfig, subnet: Subnet) -> Sam:
    """Copy a subnet's slices of a supernet into a model of its own.

    Args:
        sam: the supernet's SAM.
        config: its encoder's shape.
    """
    alone = build_sam(config.reduced(subnet))
    state = sam.state_dict()
    names = _parent_names(sam, alone, subnet)
    for name, tensor in alone.state_dict().items():
        block = next((own for own in names if name.startswith(own)), "")
        source = state[names.get(block, "") + name.removeprefix(block)]
        tensor.copy_(source[tuple(slice(0, size) for size in tensor.shape)])
    # Rows of several heads' queries, keys and values are no prefix of the parent's.
    heads = elastic(sam.image_encoder).attention_heads
    kept = [heads[layer] for layer in subnet.layers] if heads else []
    for own, whole in zip(elastic(alone.image_encoder).attention_heads, kept, strict=True):
        copy_first(own, whole)
    return alone


def _parent_names(sam: Sam, alone: Sam, subnet: Subnet) -> dict[str, str]:
    """How the names of each block's tensors begin, in the standalone model and in the parent."""
    parents = _block_names(sam)
    kept = [parents[layer] for layer in subnet.layers]
    return dict(zip(_block_names(alone), kept, strict=True))


def _block_names(sam: Sam) -> list[str]:
    names = {module: f"{name}." for name, module in sam.named_modules()}
    return [names[block] for block in elastic(sam.image_encoder).blocks]


def save_subnet(alone: Sam, config: EncoderConfig, subnet: Subnet, folder: Path) -> None:
    """Write a standalone subnet; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    save_state_dict(alone.state_dict(), folder / "model.safetensors", torch.float32)
    description = {
        "format": FORMAT,
        "parent_encoder": config.to_dict(),
        **subnet.to_dict(),
    }
    (folder / "subnet.json").write_text(json.dumps(description, indent=2) + "\n")


def load_subnet(folder: str | Path) -> Sam:
    """Load a standalone subnet: a `segment_anything.Sam` in evaluation mode.

    Args:
        folder: as `save_subnet` writes it.

    Raises:
        InputError: a file is missing or of another format.
    """
    folder = Path(folder)
    for name in ("subnet.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist; give the folder of a subnet")
    try:
        description = parse_table((folder / "subnet.json").read_bytes())
        if description["format"] != FORMAT:
            raise ValueError(f"format is {description['format']}, not {FORMAT}")
        _check_sizes(description)
        config = EncoderConfig.from_dict(description["parent_encoder"])
        sam = build_sam(config.reduced(Subnet.from_dict(description)))
    except Exception as error:  # sizes that fit no encoder raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{folder / 'subnet.json'} describes no subnet: {reason}") from error
    try:
        sam.load_state_dict(load_file(folder / "model.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / 'model.safetensors'} is not this subnet: {reason}") from error
    return sam


def _check_sizes(described: Any) -> None:
    """Refuse sizes that would fill the memory before the weights are looked at.

    Raises:
        ValueError: there is one.
    """
    inner = described.values() if isinstance(described, dict) else described
    if isinstance(inner, int | float) and not inner <= LARGEST:
        raise ValueError(f"a size of {inner}; at most {LARGEST} is read")
    if isinstance(described, dict | list):
        if len(described) > LARGEST:
            raise ValueError(f"a list of {len(described)}; at most {LARGEST} is read")
        for value in inner:
            _check_sizes(value)
