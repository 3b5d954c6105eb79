"""Clocks that time what a device does."""

import time
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Marks points in time."""

    def mark(self) -> Any:
        """Now: behind all that the device was asked for before."""

    def ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks."""


class HostClock:
    """For a CPU."""

    def mark(self) -> float:
        """Seconds."""
        return time.perf_counter()

    def ms(self, start: float, end: float) -> float:
        """Milliseconds between two marks."""
        return 1000 * (end - start)


class CpuTimeClock:
    """What this process computed, for a machine that is busy with other things."""

    def mark(self) -> float:
        """Seconds."""
        return time.process_time()

    def ms(self, start: float, end: float) -> float:
        """Milliseconds between two marks; of several threads their sum."""
        return 1000 * (end - start)


class CudaClock:
    """For a GPU, which works on while Python is ahead of it: events in its stream."""

    def mark(self) -> torch.cuda.Event:
        """An event."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Milliseconds between two marks; waits for the later one."""
        end.synchronize()
        return float(start.elapsed_time(end))


def clock_of(device: torch.device) -> Clock:
    """The clock for a device."""
    return CudaClock() if device.type == "cuda" else HostClock()
