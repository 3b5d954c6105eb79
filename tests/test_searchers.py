"""The searchers that ship, one of one's own, and how they are named."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from test_proposals import costs, evaluate, proposals, quality
from tiny import HEADED_SPACE, SPACE

from automl.sam.config import load_config
from automl.searchers.protocol import Problem, Values
from automl.searchers.registry import SEARCHERS, find_searcher
from search_spaces import InputError, Subnet, SubnetSpace

MACS = costs(SPACE.largest)["encoder_macs"]
EXAMPLE = Path(__file__).parent.parent / "examples" / "own_searcher.py"
OWN = """
import random

class Widest:
    def __init__(self, problem, seed):
        self.space, self.rng, self.best = problem.space, random.Random(seed), (0.0, None)

    def ask(self):
        return max((self.space.sample(self.rng) for _ in range(3)), key=lambda s: s.mlp_widths)

    def tell(self, subnet, values):
        self.best = max(self.best, (values.quality, subnet.key))
"""


def problem(space: SubnetSpace = SPACE, constrained: bool = False) -> Problem:
    return Problem(space, costs, tuple(space.ladder(5)), constrained)


def values_of(subnet: Subnet, excess: float = 0.0) -> Values:
    return Values(1 - costs(subnet)["encoder_macs"] / MACS, quality(subnet) / 2, excess)


def test_hyperopt_proposes_what_is_left_where_it_would_repeat_itself() -> None:
    searcher = find_searcher("hyperopt")(problem(), 0)
    found = set()
    for _ in range(40):
        subnet = searcher.ask()
        found.add(subnet)
        searcher.tell(subnet, values_of(subnet))
    assert len(found) > 20


def test_random_search_draws_from_the_spaces_own_distribution() -> None:
    searcher, rng = find_searcher("random")(problem(), 3), random.Random(3)
    assert [searcher.ask() for _ in range(9)] == [SPACE.sample(rng) for _ in range(9)]


MODELS = pytest.mark.parametrize("name", ["hyperopt", "nsga2", "tpe"])


@MODELS
def test_a_searcher_is_silent_and_leaves_the_global_generators_alone(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        searcher = find_searcher(name)(problem(constrained=True), 0)
        for _ in range(40):
            subnet = searcher.ask()
            searcher.tell(subnet, values_of(subnet, excess=0.5 * (subnet.depth == 4)))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert capfd.readouterr() == ("", "")


@MODELS
def test_a_searcher_learns_to_keep_constraints_and_to_find_what_is_good(name: str) -> None:
    def late(constrained: bool, reward: float) -> list[Subnet]:
        searcher = find_searcher(name)(problem(HEADED_SPACE, constrained), 1)
        asked = []
        for _ in range(120):
            asked.append(searcher.ask())
            excess = float(constrained and asked[-1].depth > 2)
            miou = reward * asked[-1].depth / 4
            searcher.tell(asked[-1], Values(0.5, miou, excess))
        return asked[-60:]

    rng = random.Random(0)
    drawn = [HEADED_SPACE.sample(rng).depth for _ in range(600)]
    shallow = sum(depth <= 2 for depth in drawn) / 600
    deep = sum(depth == 4 for depth in drawn) / 600
    assert sum(s.depth <= 2 for s in late(True, 1.0)) / 60 > shallow + 0.2
    assert sum(s.depth == 4 for s in late(False, 1.0)) / 60 > deep + 0.2


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_can_be_told_what_it_did_not_propose(name: str) -> None:
    searcher = find_searcher(name)(problem(HEADED_SPACE), 0)
    drawn = [HEADED_SPACE.sample(random.Random(seed)) for seed in range(20)]
    for subnet in drawn:
        searcher.tell(subnet, values_of(subnet))
    assert HEADED_SPACE.contains(searcher.ask())


def test_a_searcher_of_ones_own_goes_by_file_or_by_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_search.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    runs = []
    for name in ("my_search.py:Widest", "my_search:Widest"):
        config = load_config(None, [f"search.searcher={name}"])
        monkeypatch.chdir("/")  # as a worker, which has a directory of its own
        known: dict[Subnet, float] = {}
        runs.append(
            evaluate(proposals(known.get, make=find_searcher(config.search.searcher)), known, 12)
        )
        monkeypatch.chdir(tmp_path)
    assert len(set(runs[0])) == 12
    assert runs[0] == runs[1]


def test_the_example_searches_around_what_is_good() -> None:
    known: dict[Subnet, float] = {}
    make = find_searcher(f"{EXAMPLE}:Neighbours")
    assert len(set(evaluate(proposals(known.get, make=make, space=HEADED_SPACE), known, 30))) == 30


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("annealing", ["'annealing' is unknown", *SEARCHERS, "FILE.py:NAME"]),
        ("nowhere.py:Search", ["nowhere.py does not exist"]),
        (f"{EXAMPLE}:Search", ["defines no function 'Search'"]),
        ("no.such.module:Search", ["no module no.such.module"]),
        ("automl.pareto:Search", ["automl.pareto defines no function 'Search'"]),
    ],
)
def test_a_searcher_that_is_none_is_one_line(name: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, [f"search.searcher={name}"])
    message = str(caught.value)
    assert message.startswith("search.searcher: ")
    assert "\n" not in message
    for part in parts:
        assert part in message
