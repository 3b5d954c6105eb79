"""What the next step needs, made in the background while the present one runs."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(make: Callable[[int], T], steps: range) -> Iterator[tuple[int, T]]:
    """Yield each step with `make(step)`; meanwhile a thread makes what comes next.

    Args:
        make: called for the steps in order, one at a time; what it raises is raised at its step.
        steps: those that are asked for; none beyond is made.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        upcoming = [thread.submit(make, step) for step in steps[:1]]
        for i, step in enumerate(steps):
            made = upcoming.pop().result()
            upcoming += [thread.submit(make, later) for later in steps[i + 1 : i + 2]]
            yield step, made
