"""Neuron scores: how important each hidden neuron of each MLP is.

A score is a function of the encoder and calibration pictures that gives a tensor [hidden] for each
layer, higher for more important. Adding one is adding a function to `SCORES`.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from trainables.sam.encoder import ElasticEncoder, Mlp

Score = Callable[[ElasticEncoder, Iterable[Tensor]], list[Tensor]]


class _InputNorms:
    """L2 norms of the inputs of an MLP's two linear layers, over all tokens, streamed."""

    def __init__(self, mlp: Mlp) -> None:
        self.squares = [
            torch.zeros(layer.in_features, dtype=torch.float64) for layer in (mlp.first, mlp.second)
        ]
        self.hooks = [
            layer.register_forward_pre_hook(self._adder(total))
            for layer, total in zip((mlp.first, mlp.second), self.squares, strict=True)
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
def wanda(encoder: ElasticEncoder, batches: Iterable[Tensor]) -> list[Tensor]:
    """SuperSAM's score, after Wanda (arXiv 2306.11695).

    s_i = 1/2 (Σ_j |W1_ij| ‖x_j‖ + Σ_k |W2_ki| ‖h_i‖), with x the input of the first linear layer,
    h that of the second, and norms over all tokens of all calibration pictures.

    Args:
        encoder: run as it is; its statistics live only as long as this call.
        batches: normalised pictures [B, 3, S, S].
    """
    norms = [_InputNorms(mlp) for mlp in encoder.mlps]
    try:
        for pictures in batches:
            encoder.parent(pictures)  # its own modules, which the hooks listen to
    finally:
        measured = [norm.close() for norm in norms]
    scores = []
    for mlp, (x, h) in zip(encoder.mlps, measured, strict=True):
        first, second = mlp.first.weight, mlp.second.weight
        rows = first.detach().abs().double().cpu() @ x
        columns = second.detach().abs().double().cpu().sum(0) * h
        scores.append((rows + columns) / 2)
    return scores


@torch.no_grad()
def magnitude(encoder: ElasticEncoder, batches: Iterable[Tensor]) -> list[Tensor]:
    """Sum of the absolute weights into and out of each neuron; looks at no picture."""
    return [
        mlp.first.weight.abs().double().sum(1).cpu() + mlp.second.weight.abs().double().sum(0).cpu()
        for mlp in encoder.mlps
    ]


SCORES: dict[str, Score] = {"wanda": wanda, "magnitude": magnitude}


def order_of(scores: list[Tensor]) -> list[Tensor]:
    """Neurons by descending score, layer by layer; ties keep their order."""
    return [score.argsort(descending=True, stable=True) for score in scores]
