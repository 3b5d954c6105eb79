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
    height, width = pixels.shape[:2]
    scale = image_size / max(height, width)
    size = (int(height * scale + 0.5), int(width * scale + 0.5))
    picture = torch.from_numpy(pixels).permute(2, 0, 1).float()
    targets = torch.from_numpy(masks).float()
    if size != (height, width):
        picture = _resized(picture[None], size)[0]
        targets = (_resized(targets[None], size)[0] > 0.5).float() if len(masks) else targets
    mean, std = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    picture = (picture - mean[:, None, None]) / std[:, None, None]
    padding = (0, image_size - size[1], 0, image_size - size[0])
    if not len(masks):
        return F.pad(picture, padding), torch.zeros(0, image_size, image_size)
    return F.pad(picture, padding), F.pad(targets, padding)


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)
