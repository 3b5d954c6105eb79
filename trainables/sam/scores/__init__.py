"""Scores: how important each unit is, a neuron of an MLP or a head of an attention.

A score is a function of a supernet, batches, a seed and the units of each layer (`units.py`; one
call may ask for neurons and heads) that gives a float64 tensor [count] for each of these, on the
CPU, higher for more important. It sums what it sees over all batches and all processes, keeps
nothing from one call to the next, and leaves the model as it was. Adding one is adding a function
to `SCORES`.
"""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from trainables.data.batches import Batch
from trainables.sam.scores.activations import activation, wanda
from trainables.sam.scores.blind import magnitude, random
from trainables.sam.scores.gradients import fisher, taylor
from trainables.sam.supernet import Supernet
from trainables.sam.units import Units

Score = Callable[[Supernet, Iterable[Batch], int, Sequence[Units]], list[Tensor]]
"""Supernet, batches, seed, units. All run the parent; the seed is for those that draw."""

SCORES: dict[str, Score] = {
    "wanda": wanda,
    "magnitude": magnitude,
    "activation": activation,
    "taylor": taylor,
    "fisher": fisher,
    "random": random,
}


def order_of(scores: list[Tensor]) -> list[Tensor]:
    """Units by descending score, layer by layer; ties keep their order."""
    return [score.argsort(descending=True, stable=True) for score in scores]
