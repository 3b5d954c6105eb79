"""What a subnet costs: parameters, multiply-accumulates, measured latency.

Nothing is run for the first two but shapes: torch's own counter on tensors without memory says what
each layer costs, and what removing it, or a neuron of it, saves.
"""

import statistics
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.subnet import Subnet
from trainables.sam.encoder import ElasticEncoder, elastic
from trainables.sam.segment_anything_import import Sam


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
    """What a layer costs: so much, and so much more for each neuron of its MLP.

    Removing the layer saves both, slicing its MLP the latter.
    """

    params: int
    params_per_neuron: int
    macs: int
    macs_per_neuron: int


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
        for index, width in zip(subnet.layers, subnet.mlp_widths, strict=True):
            layer = self.layers[index]
            params += layer.params + width * layer.params_per_neuron
            macs += layer.macs + width * layer.macs_per_neuron
        return Costs(params, params + self.other_params, macs)


def cost_table(sam: Sam) -> CostTable:
    """Count a SAM, wherever its weights are; they may be on the device `meta`.

    MACs are those of every matrix product and convolution of the encoder: the padding of windows,
    attention and relative position are included, norms and activations are not.
    """
    encoder = elastic(sam.image_encoder)
    macs, fixed_macs = _count_macs(encoder)
    layers = []
    for block, mlp, (whole, per_neuron) in zip(encoder.blocks, encoder.mlps, macs, strict=True):
        width = mlp.first.out_features
        params_per_neuron = mlp.first.in_features + mlp.second.out_features + 1
        params = sum(p.numel() for p in block.parameters()) - width * params_per_neuron
        layers.append(LayerCosts(params, params_per_neuron, whole - width * per_neuron, per_neuron))
    in_layers = sum(p.numel() for block in encoder.blocks for p in block.parameters())
    fixed_params = sum(p.numel() for p in encoder.parameters()) - in_layers
    others = (sam.prompt_encoder, sam.mask_decoder)
    other_params = sum(p.numel() for module in others for p in module.parameters())
    return CostTable(tuple(layers), fixed_params, fixed_macs, other_params)


class _MacCounter(nn.Module):
    """Runs an encoder layer by layer, each at two widths of its MLP."""

    def __init__(self, encoder: ElasticEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pictures: Tensor) -> tuple[list[tuple[int, int]], int]:
        """MACs of each layer and of each neuron in it; MACs of all that is no layer."""
        encoder, layers = self.encoder, []
        with FlopCounterMode(display=False) as counter:
            tokens, start = encoder.stem(pictures), 0
            for layer, width in enumerate(encoder.largest.mlp_widths):
                start = counter.get_total_flops()
                encoder.run_block(layer, tokens, width - 1)
                middle = counter.get_total_flops()
                output = encoder.run_block(layer, tokens, width)
                whole = (counter.get_total_flops() - middle) // 2
                layers.append((whole, whole - (middle - start) // 2))
                tokens = encoder.run_after(layer, output)
            encoder.head(tokens)
            counted = counter.get_total_flops() // 2
        return layers, counted - sum(2 * whole - each for whole, each in layers)


@torch.no_grad()
def _count_macs(encoder: ElasticEncoder) -> tuple[list[tuple[int, int]], int]:
    counter = _MacCounter(encoder)
    tensors = {**dict(counter.named_parameters()), **dict(counter.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    size = encoder.image_size
    picture = torch.empty(1, 3, size, size, device="meta")
    counted: tuple[list[tuple[int, int]], int] = functional_call(counter, shapes, (picture,))
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
