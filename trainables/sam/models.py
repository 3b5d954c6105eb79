"""The SAMs that are known by name, how they are built, and how their weights are loaded."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.errors import InputError
from trainables.data.pixels import PIXEL_MEAN, PIXEL_STD
from trainables.sam.segment_anything_import import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

PROMPT_DIM = 256


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of a plain-ViT image encoder, as `segment_anything.ImageEncoderViT` takes it.

    Args:
        image_size: side of the square input, pixels; a multiple of `patch_size`.
        embed_dim: width of the token stream.
        depth: number of transformer layers.
        num_heads: attention heads of each layer.
        global_layers: layers with global attention; the others attend within windows.
        window_size: side of a window, tokens.
    """

    image_size: int
    embed_dim: int
    depth: int
    num_heads: int
    global_layers: tuple[int, ...]
    window_size: int = 14
    patch_size: int = 16
    mlp_ratio: float = 4.0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "global_layers": list(self.global_layers)}


ENCODERS: dict[str, EncoderConfig] = {
    "vit_t": EncoderConfig(256, 176, 12, 4, (2, 5, 8, 11), window_size=8),
    "vit_b": EncoderConfig(1024, 768, 12, 12, (2, 5, 8, 11)),
    "vit_l": EncoderConfig(1024, 1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": EncoderConfig(1024, 1280, 32, 16, (7, 15, 23, 31)),
}
"""The parents by name; the image size is that of their checkpoints."""


def build_encoder(config: EncoderConfig) -> ImageEncoderViT:
    """An image encoder with fresh weights: pictures [B, 3, S, S] to [B, 256, S/16, S/16]."""
    return ImageEncoderViT(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.embed_dim,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        out_chans=PROMPT_DIM,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=config.window_size,
        global_attn_indexes=config.global_layers,
    )


def build_sam(config: EncoderConfig) -> Sam:
    """A SAM with fresh weights, in evaluation mode; prompt encoder and decoder are SAM's own."""
    grid = config.image_size // config.patch_size
    sam = Sam(
        image_encoder=build_encoder(config),
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


def encoder_config(model: str, image_size: int | None = None) -> EncoderConfig:
    """The encoder of a parent known by name, at another input size where one is given.

    Raises:
        InputError: the name is unknown, or the size is not a multiple of the patch size.
    """
    if model not in ENCODERS:
        raise InputError(f"model: {model!r} is unknown; choose from {', '.join(ENCODERS)}")
    known = ENCODERS[model]
    size = image_size or known.image_size
    if size % known.patch_size:
        raise InputError(f"image_size: {size} is not a multiple of {known.patch_size}")
    return EncoderConfig(**{**asdict(known), "image_size": size})


def load_sam(model: str, checkpoint: Path, image_size: int | None = None) -> Sam:
    """Build a parent and load its weights, for another input size where one is given.

    Args:
        model: a name of `ENCODERS`.
        checkpoint: `.safetensors`, or a file by `torch.save`; never unpickled beyond tensors.
        image_size: pixels; position tables are resized where it differs from the checkpoint's.

    Raises:
        InputError: the file is missing, unreadable, or not a SAM of this name.
    """
    config = encoder_config(model, image_size)
    state = read_state_dict(checkpoint)
    sam = build_sam(config)
    _check_keys(model, checkpoint, state, sam.state_dict())
    sam.load_state_dict(_resize_positions(state, sam.state_dict()))
    return sam


def read_state_dict(checkpoint: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint file, as fp32.

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
    return {name: tensor.float() for name, tensor in state.items()}


def save_state_dict(state: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    """Write tensors as safetensors; parent folders must exist."""
    save_file({name: t.detach().to(dtype).contiguous() for name, t in state.items()}, path)


def _check_keys(
    model: str, path: Path, found: dict[str, Tensor], wanted: dict[str, Tensor]
) -> None:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    other = [
        name
        for name in wanted
        if name in found
        and found[name].shape != wanted[name].shape
        and not _is_position(name, found[name], wanted[name])
    ]
    for what, names in (("lacks", missing), ("has unknown", extra)):
        if names:
            raise InputError(
                f"checkpoint: {path} is no {model}: it {what} {names[0]} "
                f"({len(names)} such of {len(wanted)} tensors)"
            )
    if other:
        raise InputError(
            f"checkpoint: {path} is no {model}: {other[0]} has shape "
            f"{list(found[other[0]].shape)}, not {list(wanted[other[0]].shape)}"
        )


def _is_position(name: str, found: Tensor, wanted: Tensor) -> bool:
    """Whether a tensor differs only in the size of the grid that it was trained for."""
    kind = name.rsplit(".", 1)[-1]
    same_width = found.ndim == wanted.ndim and found.shape[-1] == wanted.shape[-1]
    return same_width and kind in ("pos_embed", "rel_pos_h", "rel_pos_w")


def _resize_positions(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Absolute positions [1, H, W, C] bicubically; relative ones [2S-1, C] linearly.

    The latter is the rule by which segment_anything itself stretches a table that is too short.
    """
    resized = {}
    for name, tensor in state.items():
        size = wanted[name].shape
        if tensor.shape != size and name.endswith("pos_embed"):
            grid = F.interpolate(
                tensor.permute(0, 3, 1, 2), size[1:3], mode="bicubic", align_corners=False
            )
            tensor = grid.permute(0, 2, 3, 1)
        elif tensor.shape != size:
            tensor = F.interpolate(tensor.T[None], size[0], mode="linear")[0].T
        resized[name] = tensor
    return resized
