"""What Ray Tune is proposed, whichever searcher stands behind it."""

import itertools
import pickle
from collections import Counter
from collections.abc import Callable

import pytest
from tiny import HEADED_CONFIG, HEADED_SPACE, SPACE, tiny_sam

from automl.sam.proposals import SubnetProposals
from automl.searchers.hyperopt import hyperopt_search
from automl.searchers.protocol import MakeSearcher, Problem, Values
from automl.searchers.random import RandomSearch
from automl.searchers.registry import SEARCHERS, find_searcher
from automl.searchers.searched_proposals import PATIENCE, RETRIES
from search_spaces import Constraint, InputError, Subnet, SubnetSpace
from trainables.costs import cost_table

COSTS = cost_table(tiny_sam(config=HEADED_CONFIG))
MACS = COSTS.costs(SPACE.largest).encoder_macs


def costs(subnet: Subnet) -> dict[str, int]:
    return COSTS.costs(subnet).to_dict()


def quality(subnet: Subnet) -> float:
    """A measurement's stand-in with a known optimum: deeper and wider is better, at a cost."""
    return 0.1 * subnet.depth + sum(subnet.mlp_widths) / 2000 + sum(subnet.heads) / 100


def proposals(
    known: Callable[[Subnet], float | None] = lambda subnet: None,
    constraints: list[Constraint] | None = None,
    space: SubnetSpace = SPACE,
    seed: int = 0,
    make: MakeSearcher = hyperopt_search,
) -> SubnetProposals:
    return SubnetProposals(space, costs, MACS, constraints or [], known, seed, make)


def subnets_of(space: SubnetSpace) -> set[Subnet]:
    names, options = zip(*space.choices().items(), strict=True)
    points = (dict(zip(names, point, strict=True)) for point in itertools.product(*options))
    return {space.from_flat(point) for point in points}


class Stubborn:
    """Proposes the same subnet again and again, and remembers what it was told."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.asked = problem, 0
        self.told: list[tuple[Subnet, Values]] = []

    def ask(self) -> Subnet:
        self.asked += 1
        return self.problem.space.largest

    def tell(self, subnet: Subnet, values: Values) -> None:
        self.told.append((subnet, values))


def evaluate(search: SubnetProposals, known: dict[Subnet, float], count: int) -> list[Subnet]:
    """Ask, measure, tell, until so many are known or none is left."""
    asked: list[Subnet] = []
    while len(known) < count:
        suggestion = search.suggest(f"trial-{len(known)}")
        if not isinstance(suggestion, dict):
            break
        subnet = Subnet.from_dict(suggestion)
        known[subnet] = quality(subnet)
        asked.append(subnet)
        search.on_trial_complete(f"trial-{len(known) - 1}", {"quality": known[subnet]})
    return asked


@pytest.mark.parametrize("name", SEARCHERS)
def test_no_subnet_is_asked_for_twice_and_all_lie_in_the_space(name: str) -> None:
    known: dict[Subnet, float] = {}
    asked = evaluate(proposals(known.get, make=find_searcher(name)), known, 25)
    assert len(set(asked)) == 25
    assert all(SPACE.contains(subnet) for subnet in asked)


@pytest.mark.parametrize("name", ["hyperopt", "nsga2", "tpe"])
def test_the_ladder_comes_first(name: str) -> None:
    ladder = SPACE.ladder(5)
    known: dict[Subnet, float] = {}
    asked = evaluate(proposals(known.get, make=find_searcher(name)), known, len(ladder))
    assert set(asked) == set(ladder)


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_small_space_is_exhausted_and_then_the_search_ends(name: str) -> None:
    space = SubnetSpace(((64, 128), (128,), (64, 128), (128,)), (0.5, 0.0, 0.0, 0.0))
    known: dict[Subnet, float] = {}
    search = proposals(known.get, space=space, make=find_searcher(name))
    assert len(evaluate(search, known, 100)) == space.size


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_space_of_one_subnet_proposes_it_once_and_is_finished(name: str) -> None:
    space = SubnetSpace(((128,),) * 4, (0.0,) * 4)
    known: dict[Subnet, float] = {}
    search = proposals(known.get, space=space, make=find_searcher(name))
    assert evaluate(search, known, 9) == [space.largest]
    assert search.suggest("another") == "FINISHED"
    assert proposals(known.get, space=space, make=find_searcher(name)).suggest("a") == "FINISHED"


def test_heads_are_searched_as_well() -> None:
    known: dict[Subnet, float] = {}
    asked = evaluate(proposals(known.get, space=HEADED_SPACE), known, 25)
    assert len(set(asked)) == 25
    assert all(HEADED_SPACE.contains(subnet) for subnet in asked)
    assert len({subnet.heads for subnet in asked}) > 10
    space = SubnetSpace(((64, 128),) * 2, (0.5, 0.0), heads=((1, 4), (2, 4)))
    known.clear()
    assert len(evaluate(proposals(known.get, space=space), known, 100)) == space.size == 20


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("hyperopt", Constraint("encoder_macs", 0.94 * MACS)),
        ("random", Constraint("encoder_macs", floor=0.97 * MACS)),
        *((name, Constraint("encoder_macs", 0.96 * MACS, 0.945 * MACS)) for name in SEARCHERS),
    ],
)
def test_only_subnets_that_keep_the_constraint_are_proposed(name: str, bounds: Constraint) -> None:
    subnets = subnets_of(SPACE)
    fitting = {s for s in subnets if bounds.floor <= costs(s)["encoder_macs"] <= bounds.ceiling}
    assert 5 < len(fitting) < len(subnets) / 2
    known: dict[Subnet, float] = {}
    search = proposals(known.get, [bounds], make=find_searcher(name))
    assert set(evaluate(search, known, 100)) == fitting


def test_a_searcher_that_never_fits_is_told_so_and_feasible_subnets_are_drawn() -> None:
    made: list[Stubborn] = []
    ceiling = Constraint("encoder_macs", 0.94 * MACS)

    def make(problem: Problem, seed: int) -> Stubborn:
        assert problem.constrained
        made.append(Stubborn(problem, seed))
        return made[-1]

    known: dict[Subnet, float] = {}
    asked = evaluate(proposals(known.get, [ceiling], make=make), known, 3)
    assert len(set(asked)) == 3
    assert all(ceiling.excess(costs(subnet)) == 0 for subnet in asked)
    (searcher,) = made
    assert searcher.asked == PATIENCE + 2 * RETRIES
    refused = [values for subnet, values in searcher.told if subnet == SPACE.largest]
    assert refused == [Values(0.0, 0.0, ceiling.excess(costs(SPACE.largest)))] * searcher.asked
    told = {subnet: values for subnet, values in searcher.told if not values.excess}
    assert {subnet: values.quality for subnet, values in told.items()} == known
    for subnet, values in told.items():
        assert values.saved == 1 - costs(subnet)["encoder_macs"] / MACS


def test_where_nothing_fits_the_search_ends() -> None:
    known: dict[Subnet, float] = {}
    nothing = [Constraint("encoder_macs", 1.0)]
    assert evaluate(proposals(known.get, nothing, make=RandomSearch), known, 5) == []


def test_repeats_of_what_is_being_evaluated_are_answered_when_it_is_done() -> None:
    made: list[Stubborn] = []

    def make(problem: Problem, seed: int) -> Stubborn:
        made.append(Stubborn(problem, seed))
        return made[-1]

    search = proposals(make=make)
    first, second = search.suggest("first"), search.suggest("second")
    assert first == SPACE.largest.to_dict() != second
    (searcher,) = made
    assert searcher.told == []
    search.on_trial_complete("first", {"quality": 0.5})
    assert searcher.told == [(SPACE.largest, Values(0.0, 0.5))] * (1 + PATIENCE)
    assert searcher.asked == 1 + PATIENCE


@pytest.mark.parametrize("name", SEARCHERS)
def test_several_at_once_are_distinct_and_each_proposal_is_answered(name: str) -> None:
    asks: Counter[Subnet] = Counter()
    tells: Counter[Subnet] = Counter()

    class Counted:
        def __init__(self, problem: Problem, seed: int) -> None:
            self.inner = find_searcher(name)(problem, seed)

        def ask(self) -> Subnet:
            subnet = self.inner.ask()
            asks[subnet] += 1
            return subnet

        def tell(self, subnet: Subnet, values: Values) -> None:
            tells[subnet] += 1
            self.inner.tell(subnet, values)

    search = proposals(make=Counted)
    asked = []
    for start in range(0, 20, 4):
        found = [search.suggest(str(start + i)) for i in range(4)]
        asked += [Subnet.from_dict(each) for each in found if isinstance(each, dict)]
        for i in reversed(range(4)):
            subnet = asked[start + i]
            search.on_trial_complete(str(start + i), {"quality": quality(subnet)})
    assert len(set(asked)) == 20
    assert all(tells[subnet] >= count for subnet, count in asks.items())


def test_a_searcher_may_hold_what_cannot_be_pickled() -> None:
    class Endless(Stubborn):
        def __init__(self, problem: Problem, seed: int) -> None:
            super().__init__(problem, seed)
            self.numbers = (number for number in itertools.count())

    assert pickle.dumps(proposals(make=Endless))


def test_a_proposal_outside_the_space_is_an_error() -> None:
    class Outside(Stubborn):
        def ask(self) -> Subnet:
            return Subnet((0, 1, 2, 3), (7, 7, 7, 7))

    with pytest.raises(
        InputError, match=r"search\.searcher: proposed what the space does not hold"
    ):
        proposals(make=Outside).suggest("a")


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_search_that_starts_again_over_what_is_known_goes_the_same_way(name: str) -> None:
    assert goes_on(find_searcher(name), [])


@pytest.mark.parametrize("make", [RandomSearch, Stubborn])
def test_so_it_does_where_few_fit_or_all_are_drawn(make: MakeSearcher) -> None:
    assert goes_on(make, [Constraint("encoder_macs", 0.96 * MACS)])


def goes_on(make: MakeSearcher, constraints: list[Constraint]) -> bool:
    """Whether a search that was cut off asks on as one that was not, for nothing twice."""
    whole: dict[Subnet, float] = {}
    uninterrupted = evaluate(proposals(whole.get, constraints, make=make), whole, 15)
    parts: dict[Subnet, float] = {}
    first = evaluate(proposals(parts.get, constraints, make=make), parts, 9)
    second = evaluate(proposals(parts.get, constraints, make=make), parts, 15)
    return [*first, *second] == uninterrupted and len(set(uninterrupted)) == 15


@pytest.mark.parametrize("name", SEARCHERS)
def test_the_seed_decides(name: str) -> None:
    runs: list[list[Subnet]] = []
    for seed in (0, 0, 1):
        known: dict[Subnet, float] = {}
        search = proposals(known.get, seed=seed, make=find_searcher(name))
        runs.append(evaluate(search, known, 15))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_failed_trial_ends_no_search() -> None:
    search = proposals()
    search.suggest("failing")
    search.on_trial_complete("failing", error=True)
    assert isinstance(search.suggest("next"), dict)


def test_what_fails_is_suggested_again_before_anything_else_and_then_answered_as_failed() -> None:
    made: list[Stubborn] = []

    def make(problem: Problem, seed: int) -> Stubborn:
        made.append(Stubborn(problem, seed))
        return made[-1]

    search = SubnetProposals(SPACE, costs, MACS, [], lambda s: None, 0, make, most=2, retries=1)
    first, second = (search.suggest(trial) for trial in ("a", "b"))
    assert isinstance(first, dict)
    assert search.suggest("c") is None, "two at most, and one of them may fail"
    search.on_trial_complete("a", error=True)
    assert search.is_tried_again(first)
    assert made[0].told == []
    assert search.suggest("d") == first
    search.on_trial_complete("b", {"quality": 0.5})
    assert search.suggest("e") is None
    search.on_trial_complete("d", error=True)
    assert not search.is_tried_again(first)
    failed = [subnet for subnet, values in made[0].told if values.excess]
    assert set(failed) == {Subnet.from_dict(first)}
    assert second != first
    assert search.suggest("f") == "FINISHED"


def test_searchers_are_told_what_lies_above_the_floor() -> None:
    made: list[Stubborn] = []

    def make(problem: Problem, seed: int) -> Stubborn:
        made.append(Stubborn(problem, seed))
        return made[-1]

    tight = [Constraint("encoder_macs", 0.96 * MACS)]
    for floor, unmeasured in ((0.75, -0.75), (-0.5, 0.0)):
        search = SubnetProposals(
            SPACE, costs, MACS, tight, lambda s: None, 0, make, most=2, floor=floor
        )
        good = search.suggest("good")
        assert isinstance(good, dict)
        search.on_trial_complete("good", {"quality": 1.0})
        bad = search.suggest("bad")
        search.on_trial_complete("bad", error=True)
        told = dict(made[-1].told)
        assert told[Subnet.from_dict(good)].quality == 1 - floor
        assert told[SPACE.largest].excess > 0, "it breaks the constraint"
        assert told[SPACE.largest].quality == unmeasured
        assert isinstance(bad, dict)
        assert told[Subnet.from_dict(bad)] == Values(
            1 - costs(Subnet.from_dict(bad))["encoder_macs"] / MACS, unmeasured, 1.0
        )


def test_an_ended_search_tries_nothing_again() -> None:
    search = SubnetProposals(SPACE, costs, MACS, [], lambda s: None, 0, retries=1)
    search.suggest("a")
    search.on_trial_complete("a", error=True)
    search.end()
    assert search.suggest("b") == "FINISHED"
