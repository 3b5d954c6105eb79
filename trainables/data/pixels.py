"""From a picture's pixels to the encoder's input, as SAM does it."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
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
    height, width = pixels.shape[:2]
    scale = image_size / max(height, width)
    size = (int(height * scale + 0.5), int(width * scale + 0.5))
    picture = torch.from_numpy(pixels).permute(2, 0, 1).float()
    targets = torch.from_numpy(masks).float()
    if size != (height, width):
        picture = _resized(picture[None], size)[0]
        targets = _resized_masks(targets, size) if len(masks) else targets
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    picture = (picture - mean[:, None, None]) / std[:, None, None]
    padding = (0, image_size - size[1], 0, image_size - size[0])
    if not len(masks):
        return F.pad(picture, padding), torch.zeros(0, image_size, image_size)
    return F.pad(picture, padding), F.pad(targets, padding)


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)


def _resized_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks [N, H, W] at another size; what is smaller than a pixel keeps its best pixel."""
    covered = _resized(masks[None], size)[0]
    return (covered > 0.5 * covered.amax((-2, -1), keepdim=True)).float()


def to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture's pixels as RGB [H, W, 3]; more than 8 bits are scaled to the brightest pixel."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture).astype(np.float64)
        scaled = values * (255 / max(values.max(), 1e-12))
        picture = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    return np.array(picture.convert("RGB"))
