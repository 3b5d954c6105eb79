"""Training batches. What a step sees follows from the seed and the step alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from trainables.data.pictures import Picture, Pictures
from trainables.data.pixels import resize_and_pad
from trainables.data.prompts import (
    PromptKind,
    Prompts,
    as_prompts,
    choose_kind,
    generator,
    inside_point,
    jittered,
    tight_box,
)

MIN_VISIBLE = 8
"""Pixels of the input that an object needs after cropping to be prompted."""


class AugmentSettings(BaseModel):
    """How training pictures are varied.

    Args:
        flip: mirror left and right at even odds.
        rotate: turn by 0, 90, 180 or 270 degrees (for pictures without an up, as in microscopy).
        smallest_crop: side of the random square crop as a share of the shorter side; 1: no crop.
        box_noise: how far a box's sides are off, as a share of their length (SAM's own: 0.1); less
            teaches the model to trust the box's edges, where objects are a few pixels wide.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flip: bool = True
    rotate: bool = True
    smallest_crop: float = Field(1.0, gt=0, le=1)
    box_noise: float = Field(0.1, ge=0, le=0.5)


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    `pictures` is [B, 3, S, S], normalised and padded; for each picture there are `targets`
    [N, S, S] in {0, 1} and one prompt an object.
    """

    pictures: Tensor
    targets: list[Tensor]
    prompts: list[Prompts]


def training_batch(
    pictures: Pictures,
    step: int,
    *,
    seed: int,
    batch_size: int,
    image_size: int,
    max_objects: int,
    prompts: PromptKind,
    augment: AugmentSettings,
    rank: int = 0,
    world_size: int = 1,
) -> Batch:
    """The share of one process in the batch of a step.

    Args:
        pictures: the train split.
        step: from 0; pictures come in a new order in each epoch.
        batch_size: pictures of all processes together; a multiple of `world_size`.
        image_size: side of the encoder's input.
        max_objects: objects prompted in a picture at most, drawn anew each time.
        rank: this process; process r takes the pictures r, r + world_size, … of the batch.
    """
    items = []
    for position in range(step * batch_size + rank, (step + 1) * batch_size, world_size):
        epoch, place = divmod(position, len(pictures))
        index = int(generator(seed, epoch).permutation(len(pictures))[place])
        rng = generator(seed, 1, position)
        items.append(
            _training_item(pictures[index], rng, image_size, max_objects, prompts, augment)
        )
    return Batch(
        torch.stack([item[0] for item in items]),
        [item[1] for item in items],
        [item[2] for item in items],
    )


def _training_item(
    picture: Picture,
    rng: np.random.Generator,
    image_size: int,
    max_objects: int,
    prompts: PromptKind,
    augment: AugmentSettings,
) -> tuple[Tensor, Tensor, Prompts]:
    pixels, masks = _augmented(picture, rng, augment)
    image, targets = resize_and_pad(pixels, masks, image_size)
    visible = torch.nonzero(targets.flatten(1).sum(1) >= MIN_VISIBLE).flatten().numpy()
    if len(visible) == 0:  # the crop held no object: take the whole picture
        image, targets = resize_and_pad(picture.pixels, picture.masks(), image_size)
        visible = torch.nonzero(targets.flatten(1).any(1)).flatten().numpy()
    chosen = rng.permutation(visible)[:max_objects]
    targets = targets[torch.from_numpy(chosen)]
    kind = choose_kind(prompts, rng)
    drawn = []
    for mask in targets.numpy().astype(np.bool_):
        if kind == "box":
            drawn.append(jittered(tight_box(mask), image_size, rng, augment.box_noise))
        else:
            drawn.append(inside_point(mask, rng))
    return image, targets, as_prompts(kind, drawn)


def _augmented(
    picture: Picture, rng: np.random.Generator, augment: AugmentSettings
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    pixels, masks = picture.pixels, picture.masks()
    if augment.smallest_crop < 1:
        height, width = picture.size
        side = round(min(height, width) * rng.uniform(augment.smallest_crop, 1))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        pixels = pixels[top : top + side, left : left + side]
        masks = masks[:, top : top + side, left : left + side]
    if augment.rotate:
        turns = int(rng.integers(4))
        pixels, masks = np.rot90(pixels, turns), np.rot90(masks, turns, axes=(1, 2))
    if augment.flip and rng.random() < 0.5:
        pixels, masks = pixels[:, ::-1], masks[:, :, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(masks)
