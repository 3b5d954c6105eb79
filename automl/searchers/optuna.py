"""Optuna's samplers for two objectives, by its ask-and-tell interface."""

from collections import defaultdict
from typing import Generic

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from automl.searchers.protocol import Problem, Searcher, T, Values

POPULATION = 10
"""Subnets in a generation of NSGA-II: budgets of 40 to 200 evaluations hold several of them."""
STARTUP = 10
"""Subnets that the Parzen estimator is told before it models them: the ladder, then random ones."""


def nsga2(problem: Problem[T], seed: int) -> Searcher[T]:
    """NSGA-II (Deb and others, 2002), constraints by constrained domination."""
    return OptunaSearch(problem, NSGAIISampler(population_size=POPULATION, seed=seed))


def tpe(problem: Problem[T], seed: int) -> Searcher[T]:
    """The multi-objective Parzen estimator (Ozaki and others, 2022), of all layers at once.

    What breaks constraints is modelled as worse than whatever keeps them.
    """
    return OptunaSearch(problem, TPESampler(n_startup_trials=STARTUP, multivariate=True, seed=seed))


class OptunaSearch(Generic[T]):
    """A study in memory over (MACs saved, quality), from the ladder."""

    def __init__(self, problem: Problem[T], sampler: BaseSampler) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._constrained = problem.space, problem.constrained
        self._study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(offered)
            for name, offered in problem.space.choices().items()
        }
        self._ladder = list(problem.ladder)
        self._open: defaultdict[T, list[optuna.Trial]] = defaultdict(list)

    def ask(self) -> T:
        """A rung of the ladder while there is one, then the sampler's choice."""
        given = self._ladder.pop(0) if self._ladder else None
        trial = self._trial(given)
        subnet = self._space.from_flat(trial.params)
        self._open[subnet].append(trial)
        return subnet

    def tell(self, subnet: T, values: Values) -> None:
        """Answer the oldest open proposal of this subnet; without one, it is a trial of its own."""
        waiting = self._open[subnet]
        trial = waiting.pop(0) if waiting else self._trial(subnet)
        if self._constrained:
            trial.set_constraint("excess", values.excess)
        self._study.tell(trial, [values.saved, values.quality])

    def _trial(self, given: T | None) -> optuna.Trial:
        """A new trial: of the given subnet, or of one that the sampler chooses."""
        if given is not None:
            self._study.enqueue_trial(dict(self._space.to_flat(given)))
        return self._study.ask(self._distributions)
