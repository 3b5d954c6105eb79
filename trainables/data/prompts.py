"""Prompts: a tight box, or one point inside the mask, drawn from a seed and the object's id."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from trainables.data.table import BoolArray

DrawnKind = Literal["box", "point", "centre"]
PromptKind = Literal["box", "point", "centre", "mixed"]
"""A tight box; one pixel of the mask at random; the pixel farthest from the mask's edge, which is
how SAM's authors evaluate it (arXiv 2304.02643, section 7.1); or, for `mixed`, the first or the
second."""


@dataclass(frozen=True)
class Prompts:
    """One prompt an object, all of one kind, in pixels of the encoder's input.

    Exactly one of the two is set: `boxes` [N, 4] as x0, y0, x1, y1, or `points` [N, 1, 2] as x, y,
    all foreground.
    """

    boxes: Tensor | None = None
    points: Tensor | None = None

    @property
    def kind(self) -> Literal["box", "point"]:
        """Which of the two is set."""
        return "point" if self.boxes is None else "box"


def generator(*entropy: int) -> np.random.Generator:
    """An own random generator, fixed by the numbers given."""
    return np.random.default_rng([abs(n) for n in entropy])


def tight_box(mask: BoolArray) -> NDArray[np.float32]:
    """The smallest box that holds the mask: x0, y0, x1, y1, the last two one past the pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return np.array(corners, dtype=np.float32)


def jittered(
    box: NDArray[np.float32], size: int, rng: np.random.Generator, noise: float = 0.1
) -> NDArray[np.float32]:
    """The box with each side moved by normal noise, 20 px at most, as in SAM.

    Args:
        box: x0, y0, x1, y1.
        size: side of the encoder's input, which the box doesn't leave.
        noise: standard deviation, as a share of the side's length.
    """
    sides = np.tile(box[2:] - box[:2], 2)
    moved = np.clip(rng.normal(0, noise, 4) * sides, -20, 20)
    return np.clip(box + moved, 0, size).astype(np.float32)


def inside_point(mask: BoolArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """A pixel of the mask, uniformly: x, y."""
    rows, columns = np.nonzero(mask)
    index = rng.integers(len(rows))
    return np.array([columns[index], rows[index]], dtype=np.float32)


def centre_point(mask: BoolArray) -> NDArray[np.float32]:
    """The mask's pixel farthest from what is not of it, the picture's border included: x, y."""
    distances = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(distances.argmax(), distances.shape)
    return np.array([column, row], dtype=np.float32)


def one_point(kind: DrawnKind, mask: BoolArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """The point of a kind that asks with one: x, y."""
    return centre_point(mask) if kind == "centre" else inside_point(mask, rng)


def choose_kind(prompts: PromptKind, rng: np.random.Generator) -> DrawnKind:
    """The kind itself, or one of the two at even odds for `mixed`."""
    if prompts == "mixed":
        return "box" if rng.random() < 0.5 else "point"
    return prompts


def as_prompts(kind: DrawnKind, drawn: list[NDArray[np.float32]]) -> Prompts:
    """Boxes or points of several objects, put together."""
    values = torch.from_numpy(np.stack(drawn))
    return Prompts(boxes=values) if kind == "box" else Prompts(points=values[:, None])
