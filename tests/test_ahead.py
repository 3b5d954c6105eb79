import threading

import pytest

from trainables.data.ahead import one_ahead


def test_steps_come_in_order_with_what_was_made_for_them():
    assert list(one_ahead(lambda step: step**2, range(3, 7))) == [(3, 9), (4, 16), (5, 25), (6, 36)]
    assert list(one_ahead(lambda step: step, range(5, 5))) == []


def test_the_next_one_is_made_meanwhile_and_none_beyond():
    made = [threading.Event() for _ in range(4)]
    for step, _ in one_ahead(lambda step: made[step].set(), range(3)):
        if step < 2:
            assert made[step + 1].wait(10), "nothing is made while a step runs"
        else:
            assert not made[3].wait(0.05)
        if step == 0:
            assert not made[2].is_set()


def test_a_mistake_is_raised_at_its_step():
    def make(step):
        return 6 // (2 - step)

    seen = []
    with pytest.raises(ZeroDivisionError):
        for step, value in one_ahead(make, range(5)):
            seen.append((step, value))
    assert seen == [(0, 3), (1, 6)]


def test_stopping_early_leaves_no_thread_behind():
    before = threading.active_count()
    steps = one_ahead(lambda step: step, range(100))
    next(steps)
    steps.close()
    assert threading.active_count() == before
