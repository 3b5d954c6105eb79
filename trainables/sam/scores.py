"""Neuron scores: how important each hidden neuron of each MLP is.

A score is a function of the encoder and calibration pictures that gives a tensor [hidden] for each
layer, higher for more important. Adding one is adding a function to `SCORES`.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from trainables.sam.segment_anything_import import ImageEncoderViT, MLPBlock

Score = Callable[[ImageEncoderViT, Iterable[Tensor]], list[Tensor]]


class _InputNorms:
    """L2 norms of the inputs of an MLP's two linear layers, over all tokens, streamed."""

    def __init__(self, mlp: MLPBlock) -> None:
        self.squares = [
            torch.zeros(layer.in_features, dtype=torch.float64) for layer in (mlp.lin1, mlp.lin2)
        ]
        self.hooks = [
            layer.register_forward_pre_hook(self._adder(total))
            for layer, total in zip((mlp.lin1, mlp.lin2), self.squares, strict=True)
        ]

    @staticmethod
    def _adder(total: Tensor) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], None]:
        def add(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            total.add_(inputs[0].detach().double().square().flatten(0, -2).sum(0).cpu())

        return add

    def close(self) -> list[Tensor]:
        for hook in self.hooks:
            hook.remove()
        return [total.sqrt() for total in self.squares]


@torch.no_grad()
def wanda(encoder: ImageEncoderViT, batches: Iterable[Tensor]) -> list[Tensor]:
    """SuperSAM's score, after Wanda (arXiv 2306.11695).

    s_i = 1/2 (Σ_j |W1_ij| ‖x_j‖ + Σ_k |W2_ki| ‖h_i‖), with x the input of the first linear layer,
    h that of the second, and norms over all tokens of all calibration pictures.

    Args:
        encoder: run as it is; its statistics live only as long as this call.
        batches: normalised pictures [B, 3, S, S].
    """
    norms = [_InputNorms(block.mlp) for block in encoder.blocks]
    try:
        for pictures in batches:
            encoder(pictures)
    finally:
        measured = [norm.close() for norm in norms]
    scores = []
    for block, (x, h) in zip(encoder.blocks, measured, strict=True):
        first, second = block.mlp.lin1.weight, block.mlp.lin2.weight
        rows = first.detach().abs().double().cpu() @ x
        columns = second.detach().abs().double().cpu().sum(0) * h
        scores.append((rows + columns) / 2)
    return scores


@torch.no_grad()
def magnitude(encoder: ImageEncoderViT, batches: Iterable[Tensor]) -> list[Tensor]:
    """Sum of the absolute weights into and out of each neuron; looks at no picture."""
    return [
        block.mlp.lin1.weight.abs().double().sum(1).cpu()
        + block.mlp.lin2.weight.abs().double().sum(0).cpu()
        for block in encoder.blocks
    ]


SCORES: dict[str, Score] = {"wanda": wanda, "magnitude": magnitude}


def order_of(scores: list[Tensor]) -> list[Tensor]:
    """Neurons by descending score, layer by layer; ties keep their order."""
    return [score.argsort(descending=True, stable=True) for score in scores]
