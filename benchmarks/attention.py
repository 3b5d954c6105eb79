"""Where fused attention wins; what `IN_PARTS_FROM` and `FOLDED_FROM` come from.

    python benchmarks/attention.py [REPEATS]

For grids of several sizes it prints what segment_anything's own attention takes, and how
many times faster it is in parts and folded, without gradients, and folded with a backward pass:
ratios of medians, all in turn in each repeat. On a GPU, where there is one, in bf16 as well.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from trainables.sam.attention import (
    FOLDED_FROM,
    IN_PARTS_FROM,
    attention_in_parts,
    folded_attention,
)
from trainables.sam.segment_anything_import import Attention

Fused = Callable[[Attention, Tensor], Tensor]

SIZES = {"vit_t": (176, 4), "vit_b": (768, 12)}
"""Width and heads."""
GRIDS = {
    "vit_t": [(32, 8), (8, 11), (8, 12), (8, 16), (1, 16), (8, 20)],
    "vit_b": [
        *((25, 14), (16, 14), (4, 14)),
        *((4, 16), (1, 16), (1, 20), (1, 24), (1, 28), (1, 32), (1, 40), (1, 48), (1, 64)),
    ],
}
"""Batch and side: windows at several input sizes, then global attention."""


def seconds(run: Callable[[Tensor], Tensor], tokens: Tensor, backward: bool) -> float:
    start = time.perf_counter()
    with nullcontext() if backward else torch.no_grad():
        output = run(tokens)
        if backward:
            output.sum().backward()
    if tokens.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(
    attention: Attention, others: list[Fused], tokens: Tensor, backward: bool, repeats: int
) -> list[float]:
    """Milliseconds of segment_anything's own, and how many times faster each of the others is."""
    runs = [attention, *(partial(other, attention) for other in others)]
    taken = [[seconds(run, tokens, backward) for run in runs] for _ in range(repeats + 1)][1:]
    theirs, *ours = (statistics.median(times) for times in zip(*taken, strict=True))
    return [1000 * theirs, *(theirs / each for each in ours)]


def main(repeats: int) -> None:
    torch.set_num_threads(2)
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    name = torch.cuda.get_device_name() if cuda else device
    print(f"{name}; in parts from {IN_PARTS_FROM}, folded from {FOLDED_FROM} tokens")
    print("parts and folded: times faster than segment_anything's")
    for dtype in (torch.float32, torch.bfloat16) if cuda else (torch.float32,):
        print(
            f"{dtype}\n"
            "model       grid    logits  forward, ms  parts folded  with backward, ms folded"
        )
        grids = [(model, *grid) for model, some in GRIDS.items() for grid in some]
        for model, batch, side in grids:
            dim, heads = SIZES[model]
            attention = Attention(dim, heads, use_rel_pos=True, input_size=(side, side)).to(device)
            tokens = torch.randn(batch, side, side, dim, device=device, requires_grad=True)
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                fused = [attention_in_parts, folded_attention]
                forward = compare(attention, fused, tokens, False, repeats)
                both = compare(attention, fused[1:], tokens, True, repeats)
            print(
                f"{model} {batch:4} × {side:3}² {batch * heads * side**4:9} {forward[0]:12.1f} "
                f"{forward[1]:6.2f} {forward[2]:6.2f} {both[0]:18.1f} {both[1]:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
