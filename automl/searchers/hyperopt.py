"""HyperOpt's tree-structured Parzen estimator, for two objectives."""

from typing import Any, Generic

import numpy as np
from hyperopt import JOB_STATE_DONE, STATUS_OK, Trials, hp, tpe
from hyperopt.base import Domain

from automl.pareto import ranking
from automl.searchers.protocol import Problem, Searcher, T, Values
from automl.searchers.random import RandomSearch

STARTUP = 10
"""Subnets that the estimator is told before it models them: the ladder, then random ones."""
GAMMA = 0.5
"""Of n subnets the best ceil(GAMMA * sqrt(n)) are modelled as the good ones."""
CANDIDATES = 24
"""Drawn from the model of the good ones; the most promising is proposed."""


def hyperopt_search(problem: Problem[T], seed: int) -> Searcher[T]:
    """HyperOpt; a space without any choice, which it refuses, has one subnet to draw."""
    if problem.space.choices():
        return HyperOptSearch(problem, seed)
    return RandomSearch(problem, seed)


class HyperOptSearch(Generic[T]):
    """HyperOpt told of ranks, which are drawn up anew before each proposal, from the ladder on.

    HyperOpt has one objective. Its Parzen estimator asks of it only which subnets are the good
    ones, so that a rank by dominance makes it a multi-objective one (Ozaki and others, 2022):
    fronts one after the other, each by what its subnets add to the hypervolume; then what breaks
    constraints, by its excess. After a proposal that repeats another the next one is drawn from
    the model of the good ones rather than being its best candidate, which would often be the same.
    """

    def __init__(self, problem: Problem[T], seed: int) -> None:
        self._space = problem.space
        self._offered = {name: list(offered) for name, offered in problem.space.choices().items()}
        self._domain = Domain(
            lambda point: None, {name: hp.choice(name, o) for name, o in self._offered.items()}
        )
        self._trials = Trials()
        self._rng = np.random.default_rng(seed)
        self._ladder = list(problem.ladder)
        self._asked: set[T] = set()
        self._repeated = False
        self._told: dict[T, Values] = {}
        self._ranked = 0

    def ask(self) -> T:
        """A rung of the ladder while there is one, then HyperOpt's proposal."""
        subnet = self._ladder.pop(0) if self._ladder else self._proposal()
        self._repeated = subnet in self._asked
        self._asked.add(subnet)
        return subnet

    def tell(self, subnet: T, values: Values) -> None:
        """Once for each subnet; again changes nothing."""
        if subnet in self._told:
            return
        self._told[subnet] = values
        flat = self._space.to_flat(subnet)
        (tid,) = self._trials.new_trial_ids(1)
        misc = {
            "tid": tid,
            "cmd": self._domain.cmd,
            "workdir": self._domain.workdir,
            "idxs": {name: [tid] for name in self._offered},
            "vals": {name: [offered.index(flat[name])] for name, offered in self._offered.items()},
        }
        (trial,) = self._trials.new_trial_docs([tid], [None], [{"status": STATUS_OK}], [misc])
        trial["state"] = JOB_STATE_DONE
        self._trials.insert_trial_docs([trial])
        self._trials.refresh()

    def _proposal(self) -> T:
        self._rank()
        proposed: dict[str, Any] = tpe.suggest(
            self._trials.new_trial_ids(1),
            self._domain,
            self._trials,
            int(self._rng.integers(2**31 - 1)),
            n_startup_jobs=STARTUP,
            n_EI_candidates=1 if self._repeated else CANDIDATES,
            gamma=GAMMA,
            verbose=False,
        )[0]["misc"]["vals"]
        return self._space.from_flat(
            {name: offered[proposed[name][0]] for name, offered in self._offered.items()}
        )

    def _rank(self) -> None:
        """Every trial's loss: its place among what was told so far."""
        if self._ranked == len(self._told):
            return
        self._ranked = len(self._told)
        values = list(self._told.values())
        kept = [i for i, value in enumerate(values) if not value.excess]
        broken = [i for i, value in enumerate(values) if value.excess]
        points = [(values[i].saved, values[i].quality) for i in kept]
        order = [kept[i] for i in ranking(points)]
        order += sorted(broken, key=lambda i: values[i].excess)
        for place, i in enumerate(order):
            self._trials.trials[i]["result"]["loss"] = float(place)
