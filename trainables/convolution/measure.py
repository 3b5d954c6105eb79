"""What a convolution takes by one plan after another: time, memory, and whether it is right."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from search_spaces.conv_plan import PYTORCH, ConvPlan
from search_spaces.conv_shape import ConvShape
from trainables.clock import Clock, clock_of
from trainables.convolution.functional import convolve
from trainables.footprint import ResidentMemory
from trainables.peak_memory import peak_bytes

Memory = Literal["resident", "counted", "allocated"]
"""What was measured: resident memory of the process; tensors, where the system does not tell that;
memory that torch allocated on a GPU."""
Run = Callable[[], object]
PEAKS = 3
"""Of so many runs the median peak of resident memory counts."""
TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""By how much a result may differ from PyTorch's, over the largest number of that one. Sums over
slices are rounded to the type of the tensors."""
TF32_TOLERANCE = 5e-3


class WrongResultError(RuntimeError):
    """A plan computes something else than the convolution."""


@dataclass(frozen=True)
class Measured:
    """What one plan takes.

    Args:
        latency_ms: median milliseconds of the whole convolution, the transform included.
        peak_bytes: at most in use beyond pictures and weights, the output included.
        memory: how that was measured.
        error: the greatest difference from PyTorch's result, over its largest number.
    """

    latency_ms: float
    peak_bytes: int
    memory: Memory
    error: float


def operands(
    shape: ConvShape, device: torch.device, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random pictures [N, C, H, W] and weights [K, C / groups, kh, kw], results of order 1."""
    rng = torch.Generator().manual_seed(seed)
    pictures = torch.randn(shape.batch, shape.channels, *shape.size, generator=rng)
    window = (shape.channels // shape.groups, *shape.kernel)
    weight = torch.randn(shape.filters, *window, generator=rng)
    weight /= weight[0].numel() ** 0.5
    return pictures.to(device, dtype), weight.to(device, dtype)


def set_float32(tf32: bool) -> None:
    """For this process: how PyTorch's own multiplies float32 on a GPU; cuDNN tries its kernels."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


def milliseconds(
    runs: Sequence[Run], clock: Clock, repeats: int, warmup: int = 1
) -> list[list[float]]:
    """Of each run its times; all runs in turn in each repeat, so that what else goes on hits all.

    Args:
        runs: what is timed.
        clock: for the device.
        repeats: how often.
        warmup: so many repeats before them do not count.
    """
    taken: list[list[float]] = [[] for _ in runs]
    for repeat in range(warmup + repeats):
        for run, times in zip(runs, taken, strict=True):
            start = clock.mark()
            run()
            time = clock.ms(start, clock.mark())
            if repeat >= warmup:
                times.append(time)
    return taken


def peak_of(run: Callable[[], Tensor], device: torch.device) -> tuple[int, Memory]:
    """Bytes at most in use while something is computed, beyond what was there before.

    Args:
        run: gives the result; it ran before, so that its code is loaded. Memory that the process
            freed before is handed back first, and not counted.
        device: where it computes.
    """
    if device.type == "cuda":
        return peak_bytes(run, device)[1], "allocated"
    memory = ResidentMemory()
    output = run()
    grown = memory.grown()
    if grown is None:
        return peak_bytes(run, device)[1], "counted"
    return max(grown, output.untyped_storage().nbytes()), "resident"


class Bench:
    """A convolution that plans are tried on: pictures, weights and the right result, made once.

    Args:
        shape: of the convolution.
        device: where it is computed.
        dtype: of the tensors.
        tolerance: within which a result is right; None: that of `TOLERANCES`.
    """

    def __init__(
        self,
        shape: ConvShape,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        tolerance: float | None = None,
    ) -> None:
        self._shape, self._device, self._tolerance = shape, device, tolerance
        self._pictures, self._weight = operands(shape, device, dtype)
        # Of the rounded operands, without TF32, whatever the type and its plans.
        tf32 = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        tensors = self._pictures.float(), self._weight.float()
        self._expected = convolve(*tensors, None, shape, PYTORCH)
        torch.backends.cudnn.allow_tf32 = tf32
        self._scale = float(self._expected.abs().max())

    def run(self, plan: ConvPlan) -> Tensor:
        """The convolution by a plan."""
        return convolve(self._pictures, self._weight, None, self._shape, plan)

    def error(self, plan: ConvPlan) -> float:
        """How far a plan's result is from PyTorch's, over the largest number of that one.

        Raises:
            WrongResultError: beyond the tolerance, or it is not finite.
        """
        found = self.run(plan).float()
        error = float((found - self._expected).abs().max()) / self._scale
        within = self._tolerance_of(plan)
        if not error <= within:
            raise WrongResultError(
                f"its result differs from PyTorch's by {error:.1e} of the largest number, "
                f"{within:g} is allowed"
            )
        return error

    def measure(
        self,
        plans: Sequence[ConvPlan],
        repeats: int,
        warmup: int = 1,
        clock: Clock | None = None,
    ) -> list[Measured]:
        """Check and measure plans, timed in turn.

        Args:
            plans: of this convolution.
            repeats: of each, for its latency.
            warmup: so many before them do not count.
            clock: None: the device's.

        Raises:
            WrongResultError: as `error`.
        """
        errors = [self.error(plan) for plan in plans]
        runs = [lambda plan=plan: self.run(plan) for plan in plans]
        times = milliseconds(runs, clock or clock_of(self._device), repeats, warmup)
        found = []
        for run, taken, error in zip(runs, times, errors, strict=True):
            tries = 1 if self._device.type == "cuda" else PEAKS
            peaks = [peak_of(run, self._device) for _ in range(tries)]
            peak = int(statistics.median(size for size, _ in peaks))
            found.append(Measured(statistics.median(taken), peak, peaks[0][1], error))
        return found

    def _tolerance_of(self, plan: ConvPlan) -> float:
        if self._tolerance is not None:
            return self._tolerance
        usual = TOLERANCES[self._pictures.dtype]
        tf32 = self._device.type == "cuda" and plan.tiles.precision == "tf32"
        # PyTorch's own is allowed what it is compared by.
        own = plan.method == "torch" and torch.backends.cudnn.allow_tf32
        return max(usual, TF32_TOLERANCE) if tf32 or own else usual


def loads_code(shape: ConvShape) -> ConvShape:
    """A small convolution of the same kind, which loads what the large one needs."""
    return replace(shape, batch=1, size=(2 * shape.extent[0], 2 * shape.extent[1]))
