"""From a picture's pixels to the encoder's input, as SAM does it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def resize_and_pad(
    pixels: NDArray[np.uint8], masks: NDArray[np.bool_], image_size: int
) -> tuple[Tensor, Tensor]:
    """Bring the longer side to `image_size`, normalise, and pad with zeros right and below.

    Args:
        pixels: RGB in 0…255, [H, W, 3].
        masks: [N, H, W].

    Returns:
        The picture [3, S, S], and masks [N, S, S] in {0, 1}.
    """
    return input_picture(pixels, image_size), input_masks(masks, image_size)


def input_picture(pixels: NDArray[np.uint8], image_size: int) -> Tensor:
    """The picture alone, as `resize_and_pad` makes it: [3, S, S]."""
    size = _input_size(pixels.shape[:2], image_size)
    picture = torch.from_numpy(pixels).permute(2, 0, 1).float()
    if size != pixels.shape[:2]:
        picture = _resized(picture[None], size)[0]
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    return _padded((picture - mean[:, None, None]) / std[:, None, None], image_size)


def input_masks(masks: NDArray[np.bool_], image_size: int) -> Tensor:
    """The masks alone, as `resize_and_pad` makes them: [N, S, S] in {0, 1}."""
    if not len(masks):
        return torch.zeros(0, image_size, image_size)
    size = _input_size(masks.shape[1:], image_size)
    targets = torch.from_numpy(masks).float()
    return _padded(
        targets if size == masks.shape[1:] else _resized_masks(targets, size), image_size
    )


def _input_size(size: tuple[int, ...], image_size: int) -> tuple[int, int]:
    scale = image_size / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def _padded(values: Tensor, image_size: int) -> Tensor:
    height, width = values.shape[-2:]
    return F.pad(values, (0, image_size - width, 0, image_size - height))


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)


def _resized_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [N, H, W] at another size; what is smaller than a pixel keeps its best pixel."""
    covered = _resized(masks[None], size)[0]
    return (covered > 0.5 * covered.amax((-2, -1), keepdim=True)).float()
