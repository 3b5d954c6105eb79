"""Neuron scores: how important each hidden neuron of each MLP is.

A score is a function of a supernet, batches and a seed that gives a float64 tensor [hidden] for
each layer, on the CPU, higher for more important. It sums what it sees over all batches and all
processes, keeps nothing from one call to the next, and leaves the model as it was. Adding one is
adding a function to `SCORES`.
"""

from collections.abc import Callable, Iterable

from torch import Tensor

from trainables.data.batches import Batch
from trainables.sam.scores.activations import activation, wanda
from trainables.sam.scores.blind import magnitude, random
from trainables.sam.scores.gradients import fisher, taylor
from trainables.sam.supernet import Supernet

Score = Callable[[Supernet, Iterable[Batch], int], list[Tensor]]
"""Supernet, batches, seed. All run the parent; the seed is for those that draw."""

SCORES: dict[str, Score] = {
    "wanda": wanda,
    "magnitude": magnitude,
    "activation": activation,
    "taylor": taylor,
    "fisher": fisher,
    "random": random,
}


def order_of(scores: list[Tensor]) -> list[Tensor]:
    """Neurons by descending score, layer by layer; ties keep their order."""
    return [score.argsort(descending=True, stable=True) for score in scores]
