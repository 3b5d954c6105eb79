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
from trainables.sam.models import EncoderConfig, build_sam, save_state_dict
from trainables.sam.segment_anything_import import MLPBlock, Sam

FORMAT = 1


def build_subnet(config: EncoderConfig, subnet: Subnet) -> Sam:
    """A SAM with fresh weights whose encoder has only the subnet's layers, at their widths.

    A layer that stays keeps its kind, windowed or global.

    Args:
        config: the parent's encoder.
    """
    kept = {layer: position for position, layer in enumerate(subnet.layers)}
    smaller = EncoderConfig(
        **{
            **config.to_dict(),
            "depth": subnet.depth,
            "global_layers": tuple(kept[i] for i in config.global_layers if i in kept),
        }
    )
    sam = build_sam(smaller)
    for block, width in zip(sam.image_encoder.blocks, subnet.mlp_widths, strict=True):
        block.mlp = MLPBlock(config.embed_dim, width, type(block.mlp.act))
    return sam.eval()


@torch.no_grad()
def extract(sam: Sam, config: EncoderConfig, subnet: Subnet) -> Sam:
    """Copy a subnet's slices of a supernet into a model of its own.

    Args:
        sam: the supernet's SAM.
        config: its encoder's shape.
    """
    alone = build_subnet(config, subnet)
    state = sam.state_dict()
    wanted = alone.state_dict()
    for name, tensor in wanted.items():
        source = state[_parent_name(name, subnet)]
        tensor.copy_(source[tuple(slice(0, size) for size in tensor.shape)])
    return alone


def _parent_name(name: str, subnet: Subnet) -> str:
    prefix = "image_encoder.blocks."
    if not name.startswith(prefix):
        return name
    position, rest = name[len(prefix) :].split(".", 1)
    return f"{prefix}{subnet.layers[int(position)]}.{rest}"


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
        description: dict[str, Any] = json.loads((folder / "subnet.json").read_text())
        if description["format"] != FORMAT:
            raise ValueError(f"format is {description['format']}, not {FORMAT}")
        encoder = description["parent_encoder"]
        config = EncoderConfig(**{**encoder, "global_layers": tuple(encoder["global_layers"])})
        sam = build_subnet(config, Subnet.from_dict(description))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'subnet.json'} describes no subnet: {error}") from error
    try:
        sam.load_state_dict(load_file(folder / "model.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / 'model.safetensors'} is not this subnet: {reason}") from error
    return sam
