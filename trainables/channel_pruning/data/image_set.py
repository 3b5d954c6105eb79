"""Pictures and their classes, read when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSet:
    """One split.

    Args:
        classes: names, in the order of their numbers.
        labels: the class of each picture, [N].
        names: of each picture, for messages and for splits.
        read: from a picture's number to its pixels, RGB [H, W, 3]; raises `InputError` where the
            picture is damaged.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    read: Callable[[int], Pixels]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Some of the pictures, in this order."""
        chosen = list(indices)
        return ImageSet(
            self.classes,
            self.labels[chosen],
            tuple(self.names[i] for i in chosen),
            lambda i: self.read(chosen[i]),
        )

    def in_memory(self, image_size: int) -> "ImageSet":
        """The same, decoded and brought to S×S once: 3 S² bytes a picture."""
        pixels = np.empty((len(self), image_size, image_size, 3), np.uint8)
        for i in range(len(self)):
            pixels[i] = squared(self.read(i), image_size)
        return ImageSet(self.classes, self.labels, self.names, lambda i: pixels[i])


def squared(pixels: Pixels, image_size: int) -> Pixels:
    """Pixels [H, W, 3] as [S, S, 3]: the shorter side becomes S, the middle stays."""
    if pixels.shape[:2] == (image_size, image_size):
        return pixels
    height, width = pixels.shape[:2]
    scale = image_size / min(height, width)
    size = max(image_size, round(height * scale)), max(image_size, round(width * scale))
    picture = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
    resized = F.interpolate(picture[None], size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - image_size) // 2, (size[1] - image_size) // 2
    middle = resized[:, top : top + image_size, left : left + image_size]
    return middle.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def as_input(pixels: Sequence[Pixels]) -> Tensor:
    """Pictures of one size as [B, 3, H, W] in [0, 1]."""
    stacked = torch.from_numpy(np.stack(pixels))
    return stacked.permute(0, 3, 1, 2).float() / 255
