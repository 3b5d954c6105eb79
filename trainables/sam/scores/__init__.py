"""Scores: how important each unit is, a neuron of an MLP or a head of an attention.

A score is a function of a supernet, batches, a seed and the units of each layer (`units.py`; one
call may ask for neurons and heads) that gives a float64 tensor [count] for each of these, on the
CPU, higher for more important. It sums what it sees over all batches and all processes, keeps
nothing from one call to the next, and leaves the model as it was. Adding one is adding a function
to `SCORES`, or naming it by its file.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from torch import Tensor

from search_spaces.errors import InputError
from trainables.data.batches import Batch
from trainables.own_code import named_function
from trainables.sam.scores.activations import activation, wanda
from trainables.sam.scores.blind import magnitude, random
from trainables.sam.scores.gradients import fisher, taylor
from trainables.sam.scores.visual_prompt import pass_score
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
    "pass": pass_score,
}


def find_score(name: str, key: str = "designs.space.metric") -> Score:
    """A score by its name in `SCORES`, or by where a function of one's own is defined.

    Args:
        name: of `SCORES`, or `FILE.py:NAME`, or `package.module:NAME`.
        key: of the configuration, named in errors.

    Raises:
        InputError: there is no such score.
    """
    return SCORES.get(name) or cast(Score, named_function(name, key, SCORES))


def score_units(
    name: str, supernet: Supernet, batches: Iterable[Batch], seed: int, units: Sequence[Units]
) -> list[Tensor]:
    """What a score, named as `find_score` takes it, gives for the units of each layer.

    Raises:
        InputError: a function of one's own does not give one finite number for each unit.
    """
    found = find_score(name)(supernet, batches, seed, units)
    wanted, given = [(layer.count,) for layer in units], [tuple(score.shape) for score in found]
    if given != wanted or not all(score.isfinite().all() for score in found):
        raise InputError(
            f"designs.space.metric: {name} gave tensors of shapes {given}; give one for each entry "
            f"of units with a finite number for each unit, {wanted}"
        )
    return found


def score_label(name: str) -> str:
    """What columns call a score: the name of its function."""
    return name.rpartition(":")[2]


def order_of(scores: list[Tensor]) -> list[Tensor]:
    """Units by descending score, layer by layer; ties keep their order."""
    return [score.argsort(descending=True, stable=True) for score in scores]
