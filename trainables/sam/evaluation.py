"""mIoU of a subnet on prompted objects, with the same prompts for every subnet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from search_spaces.subnet import Subnet
from trainables.data.pictures import Picture, Pictures
from trainables.data.prompts import (
    PromptKind,
    Prompts,
    as_prompts,
    choose_kind,
    generator,
    inside_point,
    tight_box,
)
from trainables.data.table import decode_masks as decode_rle
from trainables.sam.losses import decode_masks, encode_prompts
from trainables.sam.segment_anything_import import ResizeLongestSide
from trainables.sam.supernet import Supernet

PROMPTS_AT_ONCE = 32
"""Masks at a picture's full size are large: so many prompts are decoded together."""


@dataclass(frozen=True)
class Metrics:
    """Means over prompted objects.

    `miou` takes the mask that the model's predicted IoU ranks first, `miou_oracle` the best of the
    three; both at the picture's own resolution.
    """

    miou: float
    miou_oracle: float
    objects: int


@dataclass(frozen=True)
class _Example:
    pixels: Tensor  # [3, h, w] uint8, longer side at the encoder's input size
    size: tuple[int, int]
    objects: list[dict[str, Any]]
    prompts: list[Prompts]


class EvaluationSet:
    """Pictures with their prompts, ready to evaluate any number of subnets on.

    Args:
        pictures: a split.
        image_size: side of the encoder's input.
        prompts: what is asked with; `mixed` asks each picture with one or the other.
        seed: prompts and, where there are more than `max_objects`, the objects follow from it.
        limit: only the first so many pictures.
        max_objects: objects prompted in a picture at most.
    """

    def __init__(
        self,
        pictures: Pictures,
        *,
        image_size: int,
        prompts: PromptKind,
        seed: int,
        limit: int | None = None,
        max_objects: int = 64,
    ) -> None:
        count = len(pictures) if limit is None else min(limit, len(pictures))
        resize = ResizeLongestSide(image_size)
        self._examples = [
            _example(pictures[i], resize, prompts, seed, max_objects) for i in range(count)
        ]
        self.seed = seed

    def __len__(self) -> int:
        return len(self._examples)

    @torch.no_grad()
    def evaluate(self, supernet: Supernet, subnet: Subnet, batch_size: int = 8) -> Metrics:
        """Measure one subnet; deterministic for given weights."""
        chosen: list[Tensor] = []
        best: list[Tensor] = []
        for start in range(0, len(self._examples), batch_size):
            examples = self._examples[start : start + batch_size]
            embeddings = supernet(self._input(supernet, examples), subnet)
            for i, example in enumerate(examples):
                ious, ranked = _object_ious(supernet, embeddings[i : i + 1], example)
                chosen.append(ious.gather(1, ranked.argmax(1, keepdim=True))[:, 0])
                best.append(ious.max(1).values)
        scores, oracle = torch.cat(chosen), torch.cat(best)
        return Metrics(float(scores.double().mean()), float(oracle.double().mean()), len(scores))

    @torch.no_grad()
    def box_miou(self) -> float:
        """What the objects' own tight boxes, taken as masks, would score."""
        scores = []
        for example in self._examples:
            for mask in decode_rle(example.objects, *example.size):
                x0, y0, x1, y1 = (int(v) for v in tight_box(mask))
                scores.append(mask.sum() / ((x1 - x0) * (y1 - y0)))
        return float(sum(scores) / len(scores))

    @torch.no_grad()
    def embeddings(
        self, supernet: Supernet, subnet: Subnet, batch_size: int = 8
    ) -> Sequence[Tensor]:
        """The image embeddings, one [256, H, W] a picture."""
        batches = [
            supernet(self._input(supernet, self._examples[i : i + batch_size]), subnet)
            for i in range(0, len(self._examples), batch_size)
        ]
        return [embedding for batch in batches for embedding in batch]

    def batches(self, supernet: Supernet, batch_size: int = 8) -> list[Tensor]:
        """The pictures as the encoder's input, normalised: [B, 3, S, S] each."""
        return [
            self._input(supernet, self._examples[i : i + batch_size])
            for i in range(0, len(self._examples), batch_size)
        ]

    @staticmethod
    def _input(supernet: Supernet, examples: Sequence[_Example]) -> Tensor:
        device = supernet.sam.pixel_mean.device
        return torch.stack([supernet.sam.preprocess(e.pixels.to(device)) for e in examples])


def _example(
    picture: Picture, resize: ResizeLongestSide, kind: PromptKind, seed: int, max_objects: int
) -> _Example:
    objects = sorted(picture.objects, key=lambda o: generator(seed, o["id"]).random())[:max_objects]
    rng = generator(seed, *(o["id"] for o in objects))
    chosen = choose_kind(kind, rng)
    drawn = []
    for row, mask in zip(objects, picture.masks(objects), strict=True):
        if chosen == "box":
            drawn.append(resize.apply_boxes(tight_box(mask)[None], picture.size)[0])
        else:
            point = inside_point(mask, generator(seed, row["id"], 1))
            drawn.append(resize.apply_coords(point[None], picture.size)[0])
    pixels = torch.from_numpy(resize.apply_image(picture.pixels)).permute(2, 0, 1).contiguous()
    values = [d.astype("float32") for d in drawn]
    prompts = [
        as_prompts(chosen, values[i : i + PROMPTS_AT_ONCE])
        for i in range(0, len(values), PROMPTS_AT_ONCE)
    ]
    return _Example(pixels, picture.size, objects, prompts)


def _object_ious(supernet: Supernet, embedding: Tensor, example: _Example) -> tuple[Tensor, Tensor]:
    """IoU of the three masks with the truth, and as the model predicts it: [N, 3] each."""
    sam = supernet.sam
    ious, predicted = [], []
    for start, prompts in zip(
        range(0, len(example.objects), PROMPTS_AT_ONCE), example.prompts, strict=True
    ):
        logits, ranks = decode_masks(sam, embedding, encode_prompts(sam, prompts))
        masks = sam.postprocess_masks(logits[:, 1:], tuple(example.pixels.shape[1:]), example.size)
        masks = masks > sam.mask_threshold
        rows = example.objects[start : start + PROMPTS_AT_ONCE]
        truth = torch.from_numpy(decode_rle(rows, *example.size)).to(masks.device)[:, None]
        shared = (masks & truth).count_nonzero((-2, -1)).double()
        ious.append(shared / (masks | truth).count_nonzero((-2, -1)).clamp(min=1))
        predicted.append(ranks[:, 1:])
    return torch.cat(ious).cpu(), torch.cat(predicted).cpu()
