"""The mask decoder and the losses, beside segment_anything's own and losses written out.

    python benchmarks/decoder.py [REPEATS] [--threads 2]

For embeddings of several sizes and numbers of boxes it prints what segment_anything's decoder takes
without gradients and with a backward pass, and how many times faster ours is; then the same for the
losses of all masks with their gradients. Medians, all in turn in each repeat.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.sam.config import PACKAGED_CHECKPOINTS
from trainables.data.prompts import Prompts
from trainables.sam.decoder import decode_masks, encode_prompts
from trainables.sam.losses import FOCAL_ALPHA, FOCAL_WEIGHT, mask_losses
from trainables.sam.models import load_sam
from trainables.sam.segment_anything_import import Sam

SIZES = [(16, 1), (16, 8), (16, 16), (32, 8), (64, 8)]
"""Side of the embedding, and prompts."""
Decode = Callable[[], tuple[Tensor, Tensor]]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compared(theirs: Callable[[], object], ours: Callable[[], object], repeats: int) -> str:
    taken = [(seconds(theirs), seconds(ours)) for _ in range(repeats + 1)][1:]
    first, second = (statistics.median(times) for times in zip(*taken, strict=True))
    return f"{1000 * first:8.1f} ms, ours {first / second:5.2f} times as fast"


def without_gradients(decode: Decode) -> None:
    with torch.no_grad():
        decode()


def with_gradients(decode: Decode) -> None:
    masks, ious = decode()
    (masks.mean() + ious.mean()).backward()


def decoders(sam: Sam, side: int, prompts: int) -> tuple[Decode, Decode]:
    generator = torch.Generator().manual_seed(0)
    sam.prompt_encoder.image_embedding_size = (side, side)
    embedding = torch.randn(1, 256, side, side, generator=generator).requires_grad_()
    corners = torch.rand(prompts, 4, generator=generator) * 8 * side
    corners[:, 2:] += corners[:, :2]
    encoded = encode_prompts(sam, Prompts(boxes=corners))
    positions = sam.prompt_encoder.get_dense_pe()
    theirs = partial(
        sam.mask_decoder.predict_masks,
        image_embeddings=embedding,
        image_pe=positions,
        sparse_prompt_embeddings=encoded[0],
        dense_prompt_embeddings=encoded[1],
    )
    return theirs, partial(decode_masks, sam, embedding, encoded, positions)


def written_out(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal and dice 20:1 of all masks, operation by operation: [N, M]."""
    logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
    wanted = targets[:, None].expand_as(logits)
    p = logits.sigmoid()
    overlap, sizes = (p * wanted).sum((-2, -1)), (p + wanted).sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (sizes + 1)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    missed = p + wanted - 2 * p * wanted
    weight = FOCAL_ALPHA * wanted + (1 - FOCAL_ALPHA) * (1 - wanted)
    return dice + FOCAL_WEIGHT * (weight * missed.square() * cross_entropy).mean((-2, -1))


def main(repeats: int) -> None:
    sam = load_sam("vit_t", PACKAGED_CHECKPOINTS["vit_t"])
    sam.prompt_encoder.requires_grad_(False)
    for side, prompts in SIZES:
        theirs, ours = decoders(sam, side, prompts)
        print(f"decoder, {side} x {side}, {prompts} boxes")
        for name, how in (("forward", without_gradients), ("with backward", with_gradients)):
            print(f"  {name:14}{compared(partial(how, theirs), partial(how, ours), repeats)}")
    for side, prompts in SIZES[1:]:
        targets = torch.zeros(prompts, 16 * side, 16 * side)
        targets[:, side : 4 * side, side : 9 * side] = 1
        logits = torch.randn(prompts, 4, 4 * side, 4 * side, requires_grad=True)
        own = partial(written_out, logits, targets)
        new = partial(lambda x, t: mask_losses(x, t)[0], logits, targets)
        run = [partial(lambda loss: loss().mean().backward(), loss) for loss in (own, new)]
        print(f"losses, {prompts} x 4 masks of {16 * side} px")
        print(f"  {'with gradients':14}{compared(*run, repeats)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("repeats", type=int, nargs="?", default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    main(options.repeats)
