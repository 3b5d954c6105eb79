"""Which subnet to evaluate next: HyperOpt along several trade-offs between size and quality."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.hyperopt import HyperOptSearch

from automl.pareto import objectives
from search_spaces.constraints import Constraint
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace

TRADE_OFFS = (0.5, 0.3, 0.7)
"""Weights of mIoU against MACs saved; one HyperOpt search each, asked in turn."""
RUNGS = 5
STARTUP = 6
"""Random proposals of each search before HyperOpt models what it was told."""
ATTEMPTS = 500
"""Proposals that may be turned down in a row before the space counts as exhausted."""


def scalarised(saved: float, miou: float, weight: float) -> float:
    """The augmented Chebyshev distance to (1, 1), negated: higher is better.

    Unlike a weighted sum it reaches every point of a front, convex or not (Steuer and Choo, 1983).
    """
    missing = (1 - weight) * (1 - saved), weight * (1 - miou)
    return -(max(missing) + 0.05 * sum(missing))


class _NoChoice(Searcher):
    """Proposes the one point of a space without dimensions, which HyperOpt refuses."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass


class SubnetProposals(Searcher):
    """A Ray Tune searcher over subnets for two objectives under constraints.

    Every trade-off has a HyperOpt search of its own, which starts from the space's ladder. A
    proposal that breaks a constraint is answered at once with a penalty; one that is known is
    answered from what is known. Neither costs an evaluation, and both are bounded. A search that
    starts again over the same ledger thus goes through the same proposals up to where it was.

    Args:
        space: the subnets on offer.
        costs: a subnet's costs by name.
        parent_macs: MACs of the parent's encoder.
        constraints: ceilings that a proposal must keep.
        known: mIoU of a subnet that was evaluated before, else None.
        seed: of all random choices.
    """

    def __init__(
        self,
        space: SubnetSpace,
        costs: Callable[[Subnet], Mapping[str, float]],
        parent_macs: float,
        constraints: list[Constraint],
        known: Callable[[Subnet], float | None],
        seed: int,
    ) -> None:
        super().__init__(metric="miou_val", mode="max")
        self._space = space
        self._costs = costs
        self._parent_macs = parent_macs
        self._constraints = constraints
        self._known = known
        ladder = [space.to_flat(subnet) for subnet in space.ladder(RUNGS)]
        dimensions = {name: tune.choice(list(o)) for name, o in space.choices().items()}
        self._searches: list[Searcher] = [
            HyperOptSearch(
                space=HyperOptSearch.convert_search_space(dimensions),
                metric="objective",
                mode="max",
                points_to_evaluate=ladder,
                n_initial_points=STARTUP,
                random_state_seed=seed + i,
            )
            if dimensions
            else _NoChoice()
            for i in range(len(TRADE_OFFS))
        ]
        self._pending: dict[str, tuple[int, Subnet]] = {}
        self._names: dict[str, str] = {}
        self._turn = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next subnet to evaluate, or FINISHED where none is left."""
        for attempt in range(ATTEMPTS):
            search = self._turn % len(self._searches)
            self._turn += 1
            name = f"{trial_id}-{attempt}"
            flat = self._searches[search].suggest(name)
            subnet = self._space.from_flat(flat)
            excess = sum(c.excess(self._costs(subnet)) for c in self._constraints)
            miou = self._known(subnet)
            if excess:
                self._answer(search, name, -1.0 - excess)
            elif miou is not None:
                self._answer(search, name, self._objective(search, subnet, miou))
            elif any(subnet == waiting for _, waiting in self._pending.values()):
                self._answer(search, name, -1.0)
            else:
                self._pending[trial_id] = (search, subnet)
                self._names[trial_id] = name
                return subnet.to_dict()
        return "FINISHED"  # Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the search that proposed a subnet what it scored."""
        search, subnet = self._pending.pop(trial_id)
        name = self._names.pop(trial_id)
        if error or not result:
            self._searches[search].on_trial_complete(name, error=True)
        else:
            self._answer(search, name, self._objective(search, subnet, result["miou_val"]))

    def _objective(self, search: int, subnet: Subnet, miou: float) -> float:
        saved, miou = objectives(self._costs(subnet)["encoder_macs"], miou, self._parent_macs)
        return scalarised(saved, miou, TRADE_OFFS[search])

    def _answer(self, search: int, name: str, objective: float) -> None:
        self._searches[search].on_trial_complete(name, {"objective": objective})

    def save(self, checkpoint_path: str) -> None:
        """The ledger is the state: a search that starts again asks itself up to where it was."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore; see `save`."""
