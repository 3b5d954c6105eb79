"""Measures the memory of a latency table: what is alive in each part of a pass over one picture."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from search_spaces.subnet import LayerSize
from trainables.latency import blank_picture, probes_of
from trainables.latency_table import Kind, LatencyTable
from trainables.peak_memory import peak_bytes
from trainables.sam.encoder import ElasticEncoder


@torch.no_grad()
def with_memory(encoder: ElasticEncoder, table: LatencyTable) -> LatencyTable:
    """A table with the memory of the encoder's parts.

    Args:
        encoder: the table's, in evaluation mode.
        table: says which sizes to measure.
    """
    kind_of = {layer: kind for kind in table.kinds for layer in kind.layers}
    blocks: dict[tuple[Kind, LayerSize], int] = {}
    fixed = 0
    for probe in probes_of(table.kinds):
        most, by_layer = _part_bytes(encoder, probe)
        fixed = max(fixed, most)
        blocks |= {(kind_of[layer], probe[layer]): size for layer, size in by_layer.items()}

    def filled(kind: Kind) -> Kind:
        """With what was measured."""
        sizes = [[blocks[kind, size] for size in row] for row in kind.sizes]
        return replace(kind, peak_bytes=tuple(map(tuple, sizes)))

    return replace(table, fixed_peak_bytes=fixed, kinds=tuple(map(filled, table.kinds)))


def _part_bytes(encoder: ElasticEncoder, sizes: dict[int, LayerSize]) -> tuple[int, dict[int, int]]:
    """Bytes alive at most during all that is no block, and during each block, in one pass."""
    picture, blocks = blank_picture(encoder), {}

    def part(run: Callable[[Tensor], Tensor], tokens: Tensor) -> tuple[Tensor, int]:
        # The picture is the caller's: it stays until the end.
        there = {tensor.data_ptr(): tensor.nbytes for tensor in (picture, tokens)}
        output, grown = peak_bytes(partial(run, tokens), picture.device)
        return output, grown + sum(there.values())

    tokens, most = part(encoder.stem, picture)
    for layer in range(len(encoder.blocks)):
        if layer in sizes:
            tokens, blocks[layer] = part(partial(_layer, encoder, layer, sizes[layer]), tokens)
        tokens, after = part(partial(encoder.run_after, layer), tokens)
        most = max(most, after)
    return max(most, part(encoder.head, tokens)[1]), blocks


def _layer(encoder: ElasticEncoder, layer: int, size: LayerSize, tokens: Tensor) -> Tensor:
    return encoder.run_layer(layer, tokens, size)
