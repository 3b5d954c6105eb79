"""How well each prompted object is found: what every figure about quality is computed from."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from search_spaces.subnet import Subnet
from trainables.data.prompts import PromptKind
from trainables.data.table import decode_masks as decode_rle
from trainables.sam.examples import Example
from trainables.sam.losses import decode_masks, encode_prompts
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
    for batch in in_batches(examples, batch_size):
        embeddings = supernet(encoder_input(supernet, batch), subnet)
        for i, example in enumerate(batch):
            for kind in kinds:
                yield from _ask(
                    supernet, embeddings[i : i + 1], example, kind, picture + i, kind in masks_of
                )
        picture += len(batch)


def _ask(
    supernet: Supernet,
    embedding: Tensor,
    example: Example,
    kind: PromptKind,
    picture: int,
    with_masks: bool,
) -> Iterator[ObjectResult]:
    """The results of one picture, object by object."""
    sam = supernet.sam
    start = 0
    for prompts in example.prompts[kind]:
        logits, predicted = decode_masks(sam, embedding, encode_prompts(sam, prompts))
        # The first of the four is for unambiguous prompts; the model's answer is among the others.
        masks = sam.postprocess_masks(logits[:, 1:], tuple(example.pixels.shape[1:]), example.size)
        masks, predicted = masks > sam.mask_threshold, predicted[:, 1:]
        rows = example.objects[start : start + len(masks)]
        truth = torch.from_numpy(decode_rle(rows, *example.size)).to(masks.device)[:, None]
        shared = (masks & truth).count_nonzero((-2, -1)).double()
        ious = shared / (masks | truth).count_nonzero((-2, -1)).clamp(min=1)
        chosen = predicted.argmax(1, keepdim=True)
        iou, score = (values.gather(1, chosen)[:, 0].tolist() for values in (ious, predicted))
        best = ious.max(1).values.tolist()
        encoded = _encode(_chosen(masks, chosen)) if with_masks else None
        for i, row in enumerate(rows):
            yield ObjectResult(
                picture=picture,
                size=example.size,
                category=row["category"],
                area=row["area"],
                box_iou=example.box_ious[start + i],
                kind=kind,
                iou=iou[i],
                best_iou=best[i],
                score=score[i],
                truth=row["rle"],
                mask=encoded[i] if encoded else None,
            )
        start += len(rows)


def _chosen(masks: Tensor, chosen: Tensor) -> Tensor:
    """Of masks [N, 3, H, W] those of the indices [N, 1]: [N, H, W]."""
    return masks[torch.arange(len(masks), device=masks.device), chosen[:, 0]]


def _encode(masks: Tensor) -> list[str]:
    """Masks [N, H, W] as COCO's compressed counts."""
    columns = np.asfortranarray(masks.permute(1, 2, 0).cpu().numpy().astype(np.uint8))
    return [rle["counts"].decode("ascii") for rle in coco_mask.encode(columns)]
