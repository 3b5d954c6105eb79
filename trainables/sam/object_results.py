"""How well each prompted object is found: what every figure about quality is computed from."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from search_spaces.subnet import Subnet
from trainables.data.prompts import PromptKind
from trainables.data.table import BoolArray
from trainables.data.table import decode_masks as decode_rle
from trainables.sam.decoder import decode_masks, encode_prompts
from trainables.sam.examples import Example
from trainables.sam.segment_anything_import import Sam
from trainables.sam.supernet import Supernet


@dataclass(frozen=True)
class ObjectResult:
    """One object that was prompted, and the mask that was chosen for it.

    The chosen mask is the one of three that the model's predicted IoU ranks first. IoUs are with
    the true mask, at the picture's own resolution.

    Args:
        picture: the number of its picture among those that were asked about, from 0.
        size: the picture's height and width, pixels.
        category: the object's.
        area: pixels of the true mask.
        box_iou: what the object's tight box, taken as a mask, would score.
        kind: what was asked with.
        iou: of the chosen mask.
        best_iou: of the best of the three.
        score: IoU of the chosen mask as the model predicts it.
        truth: the true mask, COCO's compressed counts.
        mask: the chosen mask, likewise; None where it was not asked for.
    """

    picture: int
    size: tuple[int, int]
    category: str
    area: int
    box_iou: float
    kind: PromptKind
    iou: float
    best_iou: float
    score: float
    truth: str
    mask: str | None

    def true_mask(self) -> BoolArray:
        """The true mask, [H, W]."""
        return self._decoded(self.truth)

    def chosen_mask(self) -> BoolArray:
        """The chosen mask, [H, W].

        Raises:
            ValueError: it was not asked for.
        """
        if self.mask is None:
            raise ValueError("the chosen mask was not asked for")
        return self._decoded(self.mask)

    def _decoded(self, counts: str) -> BoolArray:
        masks = decode_rle([{"rle": counts}], *self.size)
        return masks.reshape(self.size)


def pictures_at_once(image_size: int) -> int:
    """How many pictures an encoder takes together: 8, fewer above 256 px.

    Global attention at 1024 px takes gigabytes for each picture.
    """
    return min(8, max(1, 8 * 256**2 // image_size**2))


def encoder_input(supernet: Supernet, examples: Sequence[Example]) -> Tensor:
    """Pictures normalised and padded, [B, 3, S, S], where the weights are."""
    device = supernet.sam.pixel_mean.device
    return torch.stack([supernet.sam.preprocess(e.pixels.to(device)) for e in examples])


def in_batches(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """So many examples together; the last batch may be smaller."""
    iterator = iter(examples)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


@torch.no_grad()
def object_results(
    supernet: Supernet,
    subnet: Subnet,
    examples: Iterable[Example],
    kinds: Sequence[PromptKind],
    *,
    batch_size: int,
    masks_of: Collection[PromptKind] = (),
) -> Iterator[ObjectResult]:
    """Ask a subnet about pictures; each picture is encoded once, for all kinds of prompts.

    Args:
        supernet: the weights.
        subnet: which slices of them.
        examples: taken a batch at a time, so that they need not all be in memory.
        kinds: of those that the examples have.
        batch_size: pictures that the encoder takes together.
        masks_of: kinds whose chosen masks are handed over as well.
    """
    picture = 0
    positions = dense_positions(supernet.sam)
    for batch in in_batches(examples, batch_size):
        embeddings = supernet(encoder_input(supernet, batch), subnet)
        for i, example in enumerate(batch):
            for kind in kinds:
                for question in questions(supernet.sam, example, kind):
                    yield from answers(
                        supernet.sam,
                        embeddings[i : i + 1],
                        positions,
                        question,
                        picture + i,
                        kind in masks_of,
                    )
        picture += len(batch)


@dataclass(frozen=True, eq=False)
class Question:
    """Objects of one picture that are asked about together; it is the same for every subnet.

    Args:
        example: the picture.
        kind: what is asked with.
        start: the first of the picture's objects that is asked about; the others follow it.
        encoded: what `encode_prompts` gave.
        truth: the true masks, each of them as packed bits [N, ⌈H·W/8⌉]; None: they are decoded when
            they are needed.
    """

    example: Example
    kind: PromptKind
    start: int
    encoded: tuple[Tensor, Tensor]
    truth: NDArray[np.uint8] | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The objects."""
        return self.example.objects[self.start : self.start + len(self.encoded[0])]

    def with_truth(self) -> "Question":
        """The same, its true masks decoded once and for all."""
        masks = decode_rle(self.rows, *self.example.size)
        return replace(self, truth=np.packbits(masks.reshape(len(masks), -1), axis=1))

    def true_masks(self) -> BoolArray:
        """The true masks, [N, H, W]."""
        height, width = self.example.size
        if self.truth is None:
            return decode_rle(self.rows, height, width)
        bits = np.unpackbits(self.truth, axis=1, count=height * width)
        return bits.view(np.bool_).reshape(-1, height, width)


@torch.no_grad()
def questions(sam: Sam, example: Example, kind: PromptKind) -> Iterator[Question]:
    """All that is asked about a picture with one kind of prompt."""
    start = 0
    for prompts in example.prompts[kind]:
        encoded = encode_prompts(sam, prompts)
        yield Question(example, kind, start, encoded)
        start += len(encoded[0])


@torch.no_grad()
def dense_positions(sam: Sam) -> Tensor:
    """What the decoder is told of where the embedding's cells lie: [1, 256, H, W]."""
    positions: Tensor = sam.prompt_encoder.get_dense_pe()
    return positions


@torch.no_grad()
def answers(
    sam: Sam,
    embedding: Tensor,
    positions: Tensor,
    question: Question,
    picture: int,
    with_masks: bool = False,
) -> Iterator[ObjectResult]:
    """The results of one question, object by object.

    Args:
        sam: the decoder.
        embedding: the picture's, [1, 256, H, W].
        positions: what `dense_positions` gave.
        question: what is asked.
        picture: the picture's number.
        with_masks: whether the results have the chosen masks.
    """
    example = question.example
    logits, predicted = decode_masks(sam, embedding, question.encoded, positions)
    # The first of the four is for unambiguous prompts; the model's answer is among the others.
    predicted = predicted[:, 1:]
    masks = at_full_size(sam, logits[:, 1:], example) > sam.mask_threshold
    truth = torch.from_numpy(question.true_masks()).to(masks.device)[:, None]
    shared = _pixels(masks & truth)
    ious = shared.double() / (_pixels(masks) + _pixels(truth) - shared).clamp(min=1)
    chosen = predicted.argmax(1, keepdim=True)
    iou, score = (values.gather(1, chosen)[:, 0].tolist() for values in (ious, predicted))
    best = ious.max(1).values.tolist()
    encoded = _encode(_chosen(masks, chosen)) if with_masks else None
    for i, row in enumerate(question.rows):
        yield ObjectResult(
            picture=picture,
            size=example.size,
            category=row["category"],
            area=row["area"],
            box_iou=example.box_ious[question.start + i],
            kind=question.kind,
            iou=iou[i],
            best_iou=best[i],
            score=score[i],
            truth=row["rle"],
            mask=encoded[i] if encoded else None,
        )


def at_full_size(sam: Sam, logits: Tensor, example: Example) -> Tensor:
    """What `Sam.postprocess_masks` gives, to the bit: [N, 3, h, w] to the picture's own size.

    Where the encoder's input has that size, the second of its two enlargements changes nothing,
    and is left out.
    """
    side = sam.image_encoder.img_size
    height, width = example.pixels.shape[1:]
    large = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
    large = large[..., :height, :width]
    if (height, width) == example.size:
        return large
    return F.interpolate(large, example.size, mode="bilinear", align_corners=False)


def _pixels(masks: Tensor) -> Tensor:
    """How many pixels each mask has: [..., H, W] to [...]."""
    # `count_nonzero` counts in int64, which takes a CPU longer.
    return masks.flatten(-2).sum(-1, dtype=torch.int32)


def _chosen(masks: Tensor, chosen: Tensor) -> Tensor:
    """Of masks [N, 3, H, W] those of the indices [N, 1]: [N, H, W]."""
    return masks[torch.arange(len(masks), device=masks.device), chosen[:, 0]]


def _encode(masks: Tensor) -> list[str]:
    """Masks [N, H, W] as COCO's compressed counts."""
    columns = np.asfortranarray(masks.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
    return [rle["counts"].decode("ascii") for rle in coco_mask.encode(columns)]
