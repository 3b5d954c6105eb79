"""What a searcher is: something that is asked for subnets and told how good they are."""

import random
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T", bound=Hashable)
"""What is searched: a subnet, or another family's candidate."""


class FlatSpace(Protocol[T]):
    """A space whose candidates have a flat form: a categorical dimension each."""

    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """What each dimension offers."""

    def to_flat(self, candidate: T, /) -> Mapping[str, Any]:
        """The point of `choices()` that stands for a candidate."""

    def from_flat(self, flat: Mapping[str, Any], /) -> T:
        """The candidate of a point."""

    def sample(self, rng: random.Random, /) -> T:
        """Draw a candidate."""


@dataclass(frozen=True)
class Values:
    """How good a subnet is; of another family, its two objectives under the same names.

    Args:
        saved: the share of the parent's encoder MACs that it saves, to be maximised.
        quality: its mIoU, or what `search.objective` says, less `search.quality_floor`, to be
            maximised; that of an mIoU of 0 where constraints are broken, since then it was not
            measured.
        excess: by how much it breaks constraints, the sum of `Constraint.excess`; 0 where it keeps
            them all; 1 where it could not be evaluated.
    """

    saved: float
    quality: float
    excess: float = 0.0


@dataclass(frozen=True)
class Problem(Generic[T]):
    """What a searcher is made for.

    Args:
        space: the subnets on offer; as flat categories by `choices`, `to_flat` and `from_flat`.
        costs: a subnet's costs by name, known without an evaluation.
        ladder: subnets to start from, largest first; they may break constraints.
        constrained: whether there are constraints; `Values.excess` says how a subnet does.
    """

    space: FlatSpace[T]
    costs: Callable[[T], Mapping[str, float]]
    ladder: tuple[T, ...]
    constrained: bool


class Searcher(Protocol[T]):
    """Proposes subnets of a space, given how good others are.

    Several proposals may be open at a time, and answers come in any order. A proposal is answered
    once, also one that repeats another.
    """

    def ask(self) -> T:
        """The next proposal, from the space; it may repeat itself and may break constraints."""

    def tell(self, subnet: T, values: Values) -> None:
        """Answer a proposal, or say how good a subnet is that was not proposed."""


MakeSearcher = Callable[[Problem[Any], int], Searcher[Any]]
"""Makes a searcher from a problem and a seed, which all its random choices follow from."""
