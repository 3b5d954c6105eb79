import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.halving import Budget, Rung, best_records, halving_rungs
from search_spaces import InputError

FIRST, FINAL = Budget(8, 7), Budget(40, 20)
BUDGETS = st.builds(Budget, st.integers(1, 2000), st.integers(1, 300))


def shape(trials: int, reduction: int) -> list[tuple[int, int, int]]:
    rungs = halving_rungs(trials, reduction, FIRST, FINAL)
    return [(rung.designs, rung.budget.steps, rung.budget.evaluations) for rung in rungs]


@pytest.mark.parametrize(
    ("trials", "reduction", "rungs"),
    [
        (1, 3, [(1, 40, 20)]),
        (2, 3, [(2, 8, 7), (1, 40, 20)]),
        (3, 3, [(3, 8, 7), (1, 40, 20)]),
        (8, 3, [(8, 8, 7), (3, 18, 12), (1, 40, 20)]),
        (9, 3, [(9, 8, 7), (3, 18, 12), (1, 40, 20)]),
        (10, 3, [(10, 8, 7), (4, 14, 10), (2, 23, 14), (1, 40, 20)]),
        (27, 3, [(27, 8, 7), (9, 14, 10), (3, 23, 14), (1, 40, 20)]),
        (1, 2, [(1, 40, 20)]),
        (2, 2, [(2, 8, 7), (1, 40, 20)]),
        (3, 2, [(3, 8, 7), (2, 18, 12), (1, 40, 20)]),
        (8, 2, [(8, 8, 7), (4, 14, 10), (2, 23, 14), (1, 40, 20)]),
        (9, 2, [(9, 8, 7), (5, 12, 9), (3, 18, 12), (2, 27, 15), (1, 40, 20)]),
    ],
)
def test_designs_become_fewer_and_get_more(trials, reduction, rungs):
    assert shape(trials, reduction) == rungs


@given(st.integers(1, 200), st.integers(2, 6), BUDGETS, BUDGETS)
def test_no_rung_repeats_another_and_the_last_has_the_final_budget(trials, eta, first, final):
    final = Budget(max(first.steps, final.steps), final.evaluations)
    rungs = halving_rungs(trials, eta, first, final)
    assert rungs[0].designs == trials
    assert rungs[-1].budget == final
    assert rungs[0].budget == (final if len(rungs) == 1 else first)
    assert len({rung.budget for rung in rungs}) == len(rungs)
    for before, after in itertools.pairwise(rungs):
        assert after.designs < before.designs
        assert after.budget.steps >= before.budget.steps


@pytest.mark.parametrize("trials", [1, 3, 27])
def test_where_the_first_budget_is_the_final_one_there_is_a_single_rung(trials):
    assert halving_rungs(trials, 3, FINAL, FINAL) == (Rung(trials, FINAL),)


def test_with_equal_steps_the_evaluations_grow():
    rungs = halving_rungs(9, 3, Budget(40, 5), Budget(40, 20))
    assert rungs == (Rung(9, Budget(40, 5)), Rung(3, Budget(40, 10)), Rung(1, Budget(40, 20)))


def test_budgets_that_round_to_the_same_are_one_rung():
    rungs = halving_rungs(27, 3, Budget(8, 7), Budget(9, 7))
    assert rungs == (Rung(27, Budget(8, 7)), Rung(3, Budget(9, 7)))


def record(design: str, hypervolume: float, failure: str | None = None) -> dict[str, object]:
    return {"design": design, "hypervolume": hypervolume, "failure": failure}


def test_the_best_go_on_and_of_equal_ones_the_first_that_was_tried():
    records = [record("a", 0.2), record("b", 0.3), record("a", 0.2), record("c", 0.3)]
    assert [r["design"] for r in best_records(records, 2)] == ["b", "c"]
    assert [r["design"] for r in best_records(records, 9)] == ["b", "c", "a"]


def test_what_could_not_be_trained_never_goes_on():
    records = [record("a", 0.0, "the loss is nan"), record("b", 0.0)]
    assert [r["design"] for r in best_records(records, 2)] == ["b"]


def test_where_no_design_could_be_trained_the_reason_is_named():
    with pytest.raises(InputError, match="trained and searched: the loss is nan") as caught:
        best_records([record("a", 0.0, "the loss is nan")], 1)
    assert "\n" not in str(caught.value)
