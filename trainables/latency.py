"""Measures the times of a latency table.

Blocks are timed where they work, in passes through the whole encoder, not alone in a loop: there
they find other caches and other memory than among their neighbours. In a pass neighbours differ in
size, and after a round of passes each layer has had every size; so whatever slows the machine down
meets all entries alike. An entry is the median over all blocks of a kind and all rounds. The parts
of a pass add up to the pass, so that nothing has to be fitted to whole subnets; a factor that is
predicts others no better.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from search_spaces.subnet import LayerSize, Subnet
from trainables.clock import Clock, clock_of
from trainables.latency_table import Kind, LatencyTable
from trainables.sam.encoder import ElasticEncoder

ROUNDS = 40
"""How often each block is measured at each of its sizes."""
BUDGET_S = 60.0
"""Seconds after which no further round is begun; passes may be slow."""

Item = TypeVar("Item")
Track = Callable[[Sequence[Any]], Iterable[Any]]
"""Hands passes on one by one, and may show how many are done."""


@torch.no_grad()
def find_kinds(
    encoder: ElasticEncoder, widths: Sequence[Sequence[int]], heads: Sequence[Sequence[int]] = ()
) -> list[Kind]:
    """The kinds of blocks, not measured yet.

    Blocks are taken to be of one kind that have the same type and attention, the same shape of
    input, the same shapes of parameters and buffers, and as many heads.

    Args:
        encoder: whatever its weights are.
        widths: for each layer neurons of its MLP, as a `SubnetSpace` has them. A kind has what is
            named for any of its layers, and the parent's own.
        heads: the same for attention heads; empty: blocks always have all of theirs.

    Raises:
        ValueError: more is named than the parent has, or heads where they are not elastic.
    """
    if heads and not encoder.full_heads:
        raise ValueError(f"heads are not elastic here: {heads}")
    found: dict[Any, list[int]] = {}
    shapes = []
    tokens = encoder.stem(blank_picture(encoder))
    for layer, block in enumerate(encoder.blocks):
        units = encoder.heads(block)
        tensors = [*block.named_parameters(), *block.named_buffers()]
        kind = (
            type(block),
            encoder.attention(block),
            tokens.shape,
            units and units.count,
            *((name, tensor.shape) for name, tensor in tensors),
        )
        found.setdefault(kind, []).append(layer)
        shapes.append(tuple(tokens.shape[1:]))
        tokens = encoder.run_after(layer, tokens)  # a block keeps the shape of its input
    return [
        Kind(
            tuple(layers),
            encoder.attention(encoder.blocks[layers[0]]),
            shapes[layers[0]],
            _sizes(layers, widths, encoder.largest.mlp_widths),
            _sizes(layers, heads, encoder.full_heads) if heads else (),
        )
        for layers in found.values()
    ]


def _sizes(
    layers: Sequence[int], named: Sequence[Sequence[int]], full: Sequence[int]
) -> tuple[int, ...]:
    whole = full[layers[0]]
    sizes = sorted({whole, *(size for layer in layers for size in named[layer])})
    if sizes[-1] > whole:
        raise ValueError(f"layers {tuple(layers)} have {whole}, not {sizes[-1]}")
    return tuple(sizes)


@torch.no_grad()
def measure_table(
    encoder: ElasticEncoder,
    widths: Sequence[Sequence[int]],
    heads: Sequence[Sequence[int]] = (),
    *,
    model: str,
    rounds: int = ROUNDS,
    budget_s: float = BUDGET_S,
    clock: Clock | None = None,
    track: Track = iter,
) -> LatencyTable:
    """Time an encoder where its weights are, with as many threads as torch has; no memory yet.

    Args:
        encoder: in evaluation mode.
        widths: which to measure, as in `find_kinds`; others are interpolated.
        heads: likewise.
        model: the encoder's name.
        rounds: in one of them each layer runs at each of its sizes.
        budget_s: seconds after which no further round is begun.
        clock: None: the device's own.
        track: shows how far it is.
    """
    device = next(encoder.parameters()).device
    clock = clock or clock_of(device)
    kinds = find_kinds(encoder, widths, heads)
    full_heads = encoder.full_heads if heads else ()
    kind_of = {layer: kind for kind in kinds for layer in kind.layers}
    blocks: dict[tuple[Kind, LayerSize], list[float]] = {}
    fixed = []
    probes = probes_of(kinds)
    whole_ms(encoder, encoder.largest, clock)  # loads code, too
    for probe in in_time(track(probes * rounds), len(probes), budget_s):
        rest, each = _part_ms(encoder, Subnet.of(probe, full_heads), clock)
        fixed.append(rest)
        for layer, ms in each.items():
            blocks.setdefault((kind_of[layer], probe[layer]), []).append(ms)

    def timed(kind: Kind) -> Kind:
        """With what was measured."""
        ms = [[statistics.median(blocks[kind, size]) for size in row] for row in kind.sizes]
        return replace(kind, ms=tuple(map(tuple, ms)))

    return LatencyTable(
        model,
        encoder.image_size,
        torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        torch.get_num_threads(),
        str(torch.__version__),
        statistics.median(fixed),
        0,
        tuple(map(timed, kinds)),
    )


def probes_of(kinds: Sequence[Kind]) -> list[dict[int, LayerSize]]:
    """The passes of a round: all layers, in each a layer at the next of its sizes."""
    sizes = {kind: [size for row in kind.sizes for size in row] for kind in kinds}
    return [
        dict(
            sorted(
                (layer, sizes[kind][(place + turn) % len(sizes[kind])])
                for kind in kinds
                for place, layer in enumerate(kind.layers)
            )
        )
        for turn in range(max(map(len, sizes.values())))
    ]


def _part_ms(
    encoder: ElasticEncoder, subnet: Subnet, clock: Clock
) -> tuple[float, dict[int, float]]:
    """Milliseconds of all that is no block, and of each block, in one pass."""
    sizes = subnet.sizes(encoder.full_heads)
    picture, marks = blank_picture(encoder), {}
    start = clock.mark()
    tokens = encoder.stem(picture)
    for layer in range(len(encoder.blocks)):
        if layer in sizes:
            before = clock.mark()
            tokens = encoder.run_layer(layer, tokens, sizes[layer])
            marks[layer] = before, clock.mark()
        tokens = encoder.run_after(layer, tokens)
    encoder.head(tokens)
    whole = clock.ms(start, clock.mark())
    blocks = {layer: clock.ms(*pair) for layer, pair in marks.items()}
    return whole - sum(blocks.values()), blocks


def blank_picture(encoder: ElasticEncoder) -> Tensor:
    """One picture where the encoder is, [1, 3, S, S]."""
    weight, size = next(encoder.parameters()), encoder.image_size
    return torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)


@torch.no_grad()
def whole_ms(encoder: ElasticEncoder, subnet: Subnet, clock: Clock) -> float:
    """Milliseconds of one pass of a subnet."""
    picture = blank_picture(encoder)
    start = clock.mark()
    encoder(picture, subnet)
    return clock.ms(start, clock.mark())


def in_time(passes: Iterable[Item], a_round: int, budget_s: float) -> Iterator[Item]:
    """Passes in rounds of so many; when the time is over no further round is begun."""
    start = time.monotonic()
    for done, each in enumerate(passes):
        if done and done % a_round == 0 and time.monotonic() - start > budget_s:
            return
        yield each
