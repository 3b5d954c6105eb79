"""What a subnet costs: parameters, multiply-accumulates, measured latency.

Parameters and MACs are counted from the weights' shapes, without running anything.
"""

import math
import statistics
import time
from dataclasses import asdict, dataclass

import torch

from search_spaces.subnet import Subnet
from trainables.sam.encoder import ElasticEncoder
from trainables.sam.segment_anything_import import Block, ImageEncoderViT, Sam


@dataclass(frozen=True)
class Costs:
    """Counts, not millions. `encoder_macs` is at the encoder's own input size, one picture."""

    encoder_params: int
    params: int
    encoder_macs: int

    def to_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def subnet_costs(sam: Sam, subnet: Subnet) -> Costs:
    """Costs of a subnet of `sam`'s encoder, with prompt encoder and decoder in `params`."""
    encoder = sam.image_encoder
    blocks = sum(p.numel() for p in encoder.blocks.parameters())
    kept = sum(
        _block_params(encoder.blocks[layer], width)
        for layer, width in zip(subnet.layers, subnet.mlp_widths, strict=True)
    )
    fixed = sum(p.numel() for p in encoder.parameters()) - blocks
    rest = sum(p.numel() for m in (sam.prompt_encoder, sam.mask_decoder) for p in m.parameters())
    return Costs(fixed + kept, fixed + kept + rest, encoder_macs(encoder, subnet))


def _block_params(block: Block, width: int) -> int:
    full: int = block.mlp.lin1.out_features
    per_neuron: int = block.mlp.lin1.in_features + block.mlp.lin2.out_features + 1
    whole: int = sum(p.numel() for p in block.parameters())
    return whole - (full - width) * per_neuron


def encoder_macs(encoder: ImageEncoderViT, subnet: Subnet) -> int:
    """Every matrix product of the encoder for one picture.

    Padding of windows, attention products and the decomposed relative position are included.
    """
    patch = encoder.patch_embed.proj
    grid: int = encoder.img_size // patch.kernel_size[0]
    tokens = grid * grid
    macs: int = tokens * patch.weight.numel()
    for layer, width in zip(subnet.layers, subnet.mlp_widths, strict=True):
        macs += _block_macs(encoder.blocks[layer], grid, width)
    return macs + sum(
        tokens * module.weight.numel()
        for module in encoder.neck
        if isinstance(module, torch.nn.Conv2d)
    )


def _block_macs(block: Block, grid: int, width: int) -> int:
    dim: int = block.mlp.lin1.in_features
    side: int = block.window_size or grid
    windows = math.ceil(grid / side) ** 2
    attended = windows * side**2
    projections = attended * 4 * dim * dim
    products = windows * 2 * side**4 * dim
    positions = 2 * attended * side * dim if block.attn.use_rel_pos else 0
    return projections + products + positions + grid * grid * 2 * dim * width


@torch.no_grad()
def latency_ms(encoder: ElasticEncoder, subnet: Subnet, runs: int = 5) -> float:
    """Median milliseconds of the encoder on one picture, after one run that is not counted.

    Measured where the encoder's weights are, with as many threads as torch has.
    """
    weight = encoder.parent.patch_embed.proj.weight
    size = encoder.parent.img_size
    picture = torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype)
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        encoder(picture, subnet)
        if weight.is_cuda:
            torch.cuda.synchronize(weight.device)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[1:])
