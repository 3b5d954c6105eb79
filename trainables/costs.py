"""What a subnet costs: parameters, multiply-accumulates, measured latency.

Nothing is run for the first two but shapes: torch's own counter on tensors without memory says what
each layer costs, and what removing it, or a neuron or a head of it, saves.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.subnet import Subnet
from trainables.sam.encoder import ElasticEncoder, elastic
from trainables.sam.segment_anything_import import Sam
from trainables.sam.units import Units


@dataclass(frozen=True)
class Costs:
    """Counts, not millions. `encoder_macs` is at the encoder's own input size, one picture."""

    encoder_params: int
    params: int
    encoder_macs: int

    def to_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


@dataclass(frozen=True)
class LayerCosts:
    """What a layer costs: so much, and so much more for each neuron of its MLP and for each head.

    Removing the layer saves all, slicing it what is left out. A parent whose heads are not elastic
    counts as having none: what they cost is the layer's own.

    Args:
        heads: of the whole layer.
    """

    params: int
    params_per_neuron: int
    macs: int
    macs_per_neuron: int
    heads: int
    params_per_head: int
    macs_per_head: int


@dataclass(frozen=True)
class CostTable:
    """What every subnet of a SAM costs.

    Args:
        layers: of each layer that a subnet may go without.
        fixed_params: of the encoder beside its layers.
        fixed_macs: of the encoder beside its layers, one picture.
        other_params: of prompt encoder and mask decoder.
    """

    layers: tuple[LayerCosts, ...]
    fixed_params: int
    fixed_macs: int
    other_params: int

    def costs(self, subnet: Subnet) -> Costs:
        """Costs of one subnet."""
        params, macs = self.fixed_params, self.fixed_macs
        full_heads = [layer.heads for layer in self.layers if layer.heads]
        for index, size in subnet.sizes(full_heads).items():
            layer = self.layers[index]
            heads = size.heads or layer.heads
            params += layer.params + size.mlp_width * layer.params_per_neuron
            params += heads * layer.params_per_head
            macs += layer.macs + size.mlp_width * layer.macs_per_neuron
            macs += heads * layer.macs_per_head
        return Costs(params, params + self.other_params, macs)


def cost_table(sam: Sam) -> CostTable:
    """Count a SAM, wherever its weights are; they may be on the device `meta`.

    MACs are those of every matrix product and convolution of the encoder: the padding of windows,
    attention and relative position are included, norms and activations are not.
    """
    encoder = elastic(sam.image_encoder)
    macs, fixed_macs = _count_macs(encoder)
    heads: list[Units | None] = [*encoder.attention_heads] or [None] * len(macs)
    layers = map(_layer_costs, encoder.blocks, encoder.neurons, heads, macs)
    in_layers = sum(p.numel() for block in encoder.blocks for p in block.parameters())
    fixed_params = sum(p.numel() for p in encoder.parameters()) - in_layers
    others = (sam.prompt_encoder, sam.mask_decoder)
    other_params = sum(p.numel() for module in others for p in module.parameters())
    return CostTable(tuple(layers), fixed_params, fixed_macs, other_params)


class _LayerMacs(NamedTuple):
    """MACs of a whole layer, and of a neuron and a head in it."""

    layer: int
    neuron: int
    head: int


def _layer_costs(
    block: nn.Module, neurons: Units, heads: Units | None, macs: _LayerMacs
) -> LayerCosts:
    count, params_each = (heads.count, heads.params_each) if heads else (0, 0)
    params = sum(p.numel() for p in block.parameters())
    return LayerCosts(
        params=params - neurons.count * neurons.params_each - count * params_each,
        params_per_neuron=neurons.params_each,
        macs=macs.layer - neurons.count * macs.neuron - count * macs.head,
        macs_per_neuron=macs.neuron,
        heads=count,
        params_per_head=params_each,
        macs_per_head=macs.head,
    )


class _MacCounter(nn.Module):
    """Runs an encoder layer by layer: each whole, without a neuron and without a head."""

    def __init__(self, encoder: ElasticEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pictures: Tensor) -> tuple[list[_LayerMacs], int]:
        """MACs of each layer; MACs of all that is no layer."""
        encoder, layers = self.encoder, []
        tokens, fixed = _counted(encoder.stem, pictures)
        widths = encoder.largest.mlp_widths
        full_heads = encoder.full_heads or (0,) * len(widths)
        for layer, (width, heads) in enumerate(zip(widths, full_heads, strict=True)):
            run = partial(encoder.run_block, layer, tokens)
            output, whole = _counted(run, width)
            neuron = whole - _counted(run, width - 1)[1]
            # A single head always stays, and counts as the layer's own.
            head = whole - _counted(run, width, heads - 1)[1] if heads > 1 else 0
            layers.append(_LayerMacs(whole, neuron, head))
            tokens, after = _counted(encoder.run_after, layer, output)
            fixed += after
        return layers, fixed + _counted(encoder.head, tokens)[1]


def _counted(run: Callable[..., Tensor], *arguments: Any) -> tuple[Tensor, int]:
    """What a call gives, and its MACs."""
    with FlopCounterMode(display=False) as counter:
        output = run(*arguments)
    return output, counter.get_total_flops() // 2


@torch.no_grad()
def _count_macs(encoder: ElasticEncoder) -> tuple[list[_LayerMacs], int]:
    counter = _MacCounter(encoder)
    tensors = {**dict(counter.named_parameters()), **dict(counter.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    size = encoder.image_size
    picture = torch.empty(1, 3, size, size, device="meta")
    counted: tuple[list[_LayerMacs], int] = functional_call(counter, shapes, (picture,))
    return counted


@torch.no_grad()
def latency_ms(
    encoder: ElasticEncoder, subnet: Subnet, runs: int = 5, budget_s: float = 20.0
) -> float:
    """Median milliseconds of the encoder on one picture, after one run that is not counted.

    Measured where the encoder's weights are, with as many threads as torch has. Where a run is slow
    there are fewer; a single one, if no second fits the budget, counts itself.

    Args:
        runs: that are counted, at most.
        budget_s: seconds for all runs together.
    """
    weight = next(encoder.parameters())
    size = encoder.image_size
    picture = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
    times: list[float] = []
    while len(times) <= runs and (not times or sum(times) + times[-1] <= 1000 * budget_s):
        start = time.perf_counter()
        encoder(picture, subnet)
        if weight.is_cuda:
            torch.cuda.synchronize(weight.device)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[1:] or times)
