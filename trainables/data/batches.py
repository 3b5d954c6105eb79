"""Training batches. What a step sees follows from the seed and the step alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from trainables.data.pictures import Picture, Pictures
from trainables.data.pixels import input_masks, input_picture
from trainables.data.prompts import (
    PromptKind,
    Prompts,
    as_prompts,
    choose_kind,
    generator,
    jittered,
    one_point,
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

    def parts(self, count: int) -> "list[Batch]":
        """The batch in so many parts of equal size.

        Raises:
            ValueError: it can't be divided so.
        """
        size, rest = divmod(len(self.targets), count)
        if rest:
            raise ValueError(f"{len(self.targets)} pictures don't make {count} equal parts")
        slices = [slice(start, start + size) for start in range(0, len(self.targets), size)]
        return [Batch(self.pictures[s], self.targets[s], self.prompts[s]) for s in slices]


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
        index = int(pictures.epoch_order(seed, epoch)[place])
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
    drawn_view = _draw_view(picture.size, rng, augment)
    whole = _View(*picture.size)
    order = [picture.objects[i] for i in rng.permutation(len(picture.objects))]
    # Where the crop holds no object, the whole picture is taken.
    for view, least in ((drawn_view, MIN_VISIBLE), (whole, 1)):
        targets = _visible(picture, order, view, least, image_size, max_objects)
        if len(targets):
            break
    image = input_picture(view.of(picture.pixels, axes=(0, 1)), image_size)
    kind = choose_kind(prompts, rng)
    drawn = []
    for mask in targets.numpy().astype(np.bool_):
        if kind == "box":
            drawn.append(jittered(tight_box(mask), image_size, rng, augment.box_noise))
        else:
            drawn.append(one_point(kind, mask, rng))
    return image, targets, as_prompts(kind, drawn)


def _visible(
    picture: Picture,
    order: list[dict[str, Any]],
    view: "_View",
    least: int,
    image_size: int,
    max_objects: int,
) -> Tensor:
    """Masks [N, S, S] of the first objects that have so many pixels in view, `max_objects` at most.

    Only as many are decoded as it takes: a picture may hold hundreds.
    """
    found = torch.zeros(0, image_size, image_size)
    for start in range(0, len(order), max_objects):
        masks = picture.masks(order[start : start + max_objects])
        targets = input_masks(view.of(masks, axes=(1, 2)), image_size)
        found = torch.cat([found, targets[targets.flatten(1).sum(1) >= least]])
        if len(found) >= max_objects:
            break
    return found[:max_objects]


@dataclass(frozen=True)
class _View:
    """A square or all of a picture, turned and mirrored."""

    height: int
    width: int
    top: int = 0
    left: int = 0
    turns: int = 0
    mirrored: bool = False

    def of(self, values: NDArray[Any], axes: tuple[int, int]) -> NDArray[Any]:
        """What of pixels or masks is in view; `axes` are those of height and width."""
        around = (slice(None),) * axes[0]
        rows = slice(self.top, self.top + self.height)
        values = values[*around, rows, self.left : self.left + self.width]
        values = np.rot90(values, self.turns, axes)
        return np.ascontiguousarray(np.flip(values, axes[1]) if self.mirrored else values)


def _draw_view(size: tuple[int, int], rng: np.random.Generator, augment: AugmentSettings) -> _View:
    height, width = size
    top = left = turns = 0
    if augment.smallest_crop < 1:
        side = round(min(size) * rng.uniform(augment.smallest_crop, 1))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        height = width = side
    if augment.rotate:
        turns = int(rng.integers(4))
    return _View(height, width, top, left, turns, augment.flip and rng.random() < 0.5)
