"""Batches of pictures with classes, each a function of seed and step."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from trainables.channel_pruning.data.image_set import ImageSet, Pixels, as_input, squared

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, with which torchvision's weights, and those of CIFAR's ResNets, were trained."""


class Augment(BaseModel):
    """How training pictures are varied.

    Args:
        shift: pixels by which a picture is moved at most, either way; black comes in.
        flip: whether half of them are mirrored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift: int = Field(4, ge=0)
    flip: bool = True


@dataclass(frozen=True)
class LabelledBatch:
    """Pictures [B, 3, S, S] in [0, 1], and their classes [B]."""

    pictures: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "LabelledBatch":
        """On a device."""
        return LabelledBatch(self.pictures.to(device), self.labels.to(device))


def normalised(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [0, 1] as the networks take them."""
    mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (MEAN, STD))
    return (pictures - mean) / std


def training_batch(
    images: ImageSet, step: int, *, seed: int, batch_size: int, image_size: int, augment: Augment
) -> LabelledBatch:
    """The batch of a step, counted from 0; pictures come in a new order in each epoch."""
    rng = np.random.default_rng((seed, 1, step))
    shifts = rng.integers(-augment.shift, augment.shift + 1, (batch_size, 2))
    mirrored = rng.random(batch_size) < (0.5 if augment.flip else 0)
    pixels, labels = [], []
    for i in range(batch_size):
        epoch, place = divmod(step * batch_size + i, len(images))
        index = int(_order(len(images), seed, epoch)[place])
        picture = squared(images.read(index), image_size)
        down, right = shifts[i].tolist()
        pixels.append(_varied(picture, down, right, bool(mirrored[i])))
        labels.append(int(images.labels[index]))
    return LabelledBatch(as_input(pixels), torch.tensor(labels))


def plain_batches(images: ImageSet, *, batch_size: int, image_size: int) -> Iterator[LabelledBatch]:
    """All pictures once, in order, as they are; the last batch may be smaller."""
    for start in range(0, len(images), batch_size):
        indices = range(start, min(len(images), start + batch_size))
        pixels = [squared(images.read(i), image_size) for i in indices]
        yield LabelledBatch(as_input(pixels), torch.from_numpy(images.labels[list(indices)]))


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The pictures' order in an epoch."""
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


def _varied(pixels: Pixels, down: int, right: int, mirrored: bool) -> Pixels:
    """A picture [S, S, 3] moved by some pixels, black coming in, and perhaps mirrored."""
    moved = np.zeros_like(pixels)
    height, width = pixels.shape[:2]
    to = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    come = (
        slice(max(0, -down), height + min(0, -down)),
        slice(max(0, -right), width + min(0, -right)),
    )
    moved[to] = pixels[come]
    return moved[:, ::-1] if mirrored else moved
