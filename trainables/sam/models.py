"""How a SAM is built around an image encoder, and how its weights are read and written."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces.errors import InputError
from trainables.checkpoint_names import check_names
from trainables.data.pixels import PIXEL_MEAN, PIXEL_STD
from trainables.sam.family import EncoderConfig
from trainables.sam.parents import STRIDE, parent_encoder
from trainables.sam.segment_anything_import import (
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

PROMPT_DIM = 256
ENCODER = "image_encoder."
"""How the names of the encoder's tensors begin in a SAM's checkpoint."""


def build_sam(config: EncoderConfig) -> Sam:
    """A SAM with fresh weights, in evaluation mode; prompt encoder and decoder are SAM's own."""
    grid = config.image_size // STRIDE
    sam = Sam(
        image_encoder=config.build(),
        prompt_encoder=PromptEncoder(
            embed_dim=PROMPT_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=PROMPT_DIM, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=PROMPT_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    )
    return sam.eval()


def load_sam(model: str, checkpoint: Path, image_size: int | None = None) -> Sam:
    """Build a parent and load its weights, for another input size where one is given.

    Args:
        model: as `parent_encoder` takes it.
        checkpoint: `.safetensors`, or a file by `torch.save`; never unpickled beyond tensors.
        image_size: pixels; position tables are resized where it differs from the checkpoint's.

    Raises:
        InputError: the file is missing, unreadable, or not a SAM of this name.
    """
    config = parent_encoder(model, image_size)
    state = _without_unused(read_state_dict(checkpoint), config)
    sam = build_sam(config)
    sam.load_state_dict(_fitted(model, checkpoint, config, state, sam.state_dict()))
    return sam


def read_state_dict(checkpoint: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint file; those of floating point as fp32.

    Raises:
        InputError: the file is missing, unreadable, or holds something else than tensors.
    """
    if not checkpoint.is_file():
        raise InputError(f"checkpoint: {checkpoint} does not exist; give the path of a file")
    try:
        if checkpoint.suffix == ".safetensors":
            state = load_file(checkpoint)
        else:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler raises nearly anything on a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"checkpoint: {checkpoint} can't be read as weights: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(f"checkpoint: {checkpoint} holds no table of tensors (a state dict)")
    return {name: _as(tensor, torch.float32) for name, tensor in state.items()}


def save_state_dict(state: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    """Write tensors as safetensors, those of floating point as `dtype`; folders must exist."""
    save_file({name: _as(t.detach(), dtype).contiguous() for name, t in state.items()}, path)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Counters, such as batch norms have, stay integers."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _without_unused(state: dict[str, Tensor], config: EncoderConfig) -> dict[str, Tensor]:
    unused = tuple(f"{ENCODER}{prefix}" for prefix in config.unused)
    return {name: tensor for name, tensor in state.items() if not name.startswith(unused)}


def _fitted(
    model: str,
    path: Path,
    config: EncoderConfig,
    found: dict[str, Tensor],
    wanted: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The checkpoint's tensors, in the shapes that the model has.

    Raises:
        InputError: names are missing or unknown, or a shape is another one's.
    """
    check_names(model, path, found, wanted)
    fitted = {}
    for name, tensor in found.items():
        size = tuple(wanted[name].shape)
        fits: Tensor | None = tensor
        if tuple(tensor.shape) != size:
            own = name.removeprefix(ENCODER)
            fits = config.fit(own, tensor, size) if name.startswith(ENCODER) else None
        if fits is None:
            raise InputError(
                f"checkpoint: {path} is no {model}: {name} has shape {list(tensor.shape)}, "
                f"not {list(size)}"
            )
        fitted[name] = fits
    return fitted
