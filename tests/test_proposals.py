import itertools
from collections.abc import Callable

from tiny import HEADED_CONFIG, HEADED_SPACE, SPACE, tiny_sam

from automl.proposals import SubnetProposals, scalarised
from search_spaces import Constraint, Subnet, SubnetSpace
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
) -> SubnetProposals:
    return SubnetProposals(space, costs, MACS, constraints or [], known, seed)


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
        search.on_trial_complete(f"trial-{len(known) - 1}", {"miou_val": known[subnet]})
    return asked


def test_no_subnet_is_asked_for_twice_and_all_lie_in_the_space() -> None:
    known: dict[Subnet, float] = {}
    asked = evaluate(proposals(known.get), known, 25)
    assert len(set(asked)) == 25
    assert all(SPACE.contains(subnet) for subnet in asked)


def test_the_ladder_comes_first() -> None:
    ladder = SPACE.ladder(5)
    known: dict[Subnet, float] = {}
    asked = evaluate(proposals(known.get), known, len(ladder))
    assert set(asked) == set(ladder)


def test_a_small_space_is_exhausted_and_then_the_search_ends() -> None:
    space = SubnetSpace(((64, 128), (128,), (64, 128), (128,)), (0.5, 0.0, 0.0, 0.0))
    known: dict[Subnet, float] = {}
    assert len(evaluate(proposals(known.get, space=space), known, 100)) == space.size


def test_heads_are_searched_as_well() -> None:
    known: dict[Subnet, float] = {}
    asked = evaluate(proposals(known.get, space=HEADED_SPACE), known, 25)
    assert len(set(asked)) == 25
    assert all(HEADED_SPACE.contains(subnet) for subnet in asked)
    assert len({subnet.heads for subnet in asked}) > 10
    space = SubnetSpace(((64, 128),) * 2, (0.5, 0.0), heads=((1, 4), (2, 4)))
    known.clear()
    assert len(evaluate(proposals(known.get, space=space), known, 100)) == space.size == 20


def test_only_subnets_that_keep_the_constraint_are_proposed() -> None:
    ceiling = Constraint("encoder_macs", 0.95 * MACS)
    names, options = zip(*SPACE.choices().items(), strict=True)
    points = (dict(zip(names, point, strict=True)) for point in itertools.product(*options))
    subnets = {SPACE.from_flat(point) for point in points}
    fitting = {s for s in subnets if costs(s)["encoder_macs"] <= ceiling.ceiling}
    assert 5 < len(fitting) < len(subnets) / 2
    known: dict[Subnet, float] = {}
    assert set(evaluate(proposals(known.get, [ceiling]), known, 100)) == fitting


def test_a_search_that_starts_again_over_what_is_known_goes_the_same_way() -> None:
    whole: dict[Subnet, float] = {}
    uninterrupted = evaluate(proposals(whole.get), whole, 20)
    parts: dict[Subnet, float] = {}
    first = evaluate(proposals(parts.get), parts, 9)
    second = evaluate(proposals(parts.get), parts, 20)
    assert [*first, *second] == uninterrupted


def test_the_seed_decides() -> None:
    runs: list[list[Subnet]] = []
    for seed in (0, 0, 1):
        known: dict[Subnet, float] = {}
        runs.append(evaluate(proposals(known.get, seed=seed), known, 15))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_failed_trial_ends_no_search() -> None:
    search = proposals()
    search.suggest("failing")
    search.on_trial_complete("failing", error=True)
    assert isinstance(search.suggest("next"), dict)


def test_scalarised_prefers_what_dominates_for_every_trade_off() -> None:
    for weight in (0.3, 0.5, 0.7):
        assert scalarised(0.5, 0.8, weight) > scalarised(0.5, 0.7, weight)
        assert scalarised(0.6, 0.8, weight) > scalarised(0.5, 0.8, weight)
