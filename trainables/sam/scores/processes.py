"""What the processes of a training have in common."""

from collections.abc import Iterable

from torch import Tensor
from torch import distributed as dist


def sum_over_processes(totals: Iterable[Tensor]) -> None:
    """Add up each total over all processes, in place; a process alone keeps its own."""
    if dist.is_initialized():
        for total in totals:
            dist.all_reduce(total)
