"""Im2win beside im2col and PyTorch's own convolution, on the twelve layers of im2win's authors.

    python benchmarks/convolution.py [--batch 4] [--repeats 5] [--threads 2] [--layers conv1 …]
        [--cpu-time] [--tf32]

Milliseconds are medians, all methods in turn in each repeat, with the transform, the product and
the whole apart; memory is the peak beyond pictures and weights, the output included. On a CPU each
peak is that of resident memory in a process of its own; on a GPU of allocated memory. On a GPU ours
is the Triton kernel, im2col multiplies by cuBLAS, and PyTorch's own is cuDNN in benchmark mode;
float32 is IEEE's unless --tf32 is given, which holds for all three.

--cpu-time counts what the process computed instead of what the clock says, for a machine that is
busy with other things: one thread alone. The exit status is 1 where the goal on a CPU is missed:
faster than im2col on 10 of 12 layers, with less memory on all.
"""

import argparse
import statistics
import sys
from multiprocessing import get_context

import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces.conv_plan import PYTORCH, ConvPlan, Tiles, default_plan
from search_spaces.conv_shape import ConvShape
from trainables.clock import CpuTimeClock, clock_of
from trainables.convolution.functional import convolve
from trainables.convolution.kernel_launch import multiply_windows
from trainables.convolution.layers import LAYERS, paper_layer
from trainables.convolution.measure import (
    Run,
    loads_code,
    milliseconds,
    operands,
    peak_of,
    set_float32,
)
from trainables.convolution.slices import (
    empty_output,
    fill_windows,
    filters_of,
    multiply,
    windows_buffer,
)
from trainables.convolution.slicing import blocks_of, slicing_of
from trainables.convolution.transform import im2win, im2win_filters

MIB = 1 << 20
METHODS = ("im2win", "im2col", "torch")
GOAL = 10
CPU = torch.device("cpu")


def plan_of(shape: ConvShape, device: str, tf32: bool) -> ConvPlan:
    if device == "cpu":
        return default_plan(shape)
    tiles = Tiles(128, 128, 32, 8, 3, "tf32" if tf32 else "ieee")
    return ConvPlan("triton", "nhwc", "columns", tiles=tiles)


def whole(
    method: str, pictures: Tensor, weight: Tensor, shape: ConvShape, plan: ConvPlan
) -> Tensor:
    if method == "im2col":
        columns = F.unfold(pictures, shape.kernel, stride=shape.stride)
        return (weight.flatten(1) @ columns).unflatten(2, shape.output)
    return convolve(pictures, weight, None, shape, plan if method == "im2win" else PYTORCH)


def parts(
    pictures: Tensor, weight: Tensor, shape: ConvShape, plan: ConvPlan
) -> tuple[Run, Run, Run, Run]:
    """Our transform and product, im2col's transform and product, each pair in this order."""
    columns: list[Tensor] = []  # large: never there twice, nor longer than they are needed
    theirs = (
        lambda: columns.append(F.unfold(pictures, shape.kernel, stride=shape.stride)),
        lambda: weight.flatten(1) @ columns.pop(),
    )
    output = empty_output(pictures, shape)
    if plan.method == "triton":
        windows, filters = (
            im2win(pictures, shape, plan.layout),
            im2win_filters(weight, shape, plan.layout),
        )
        return (
            lambda: (
                im2win(pictures, shape, plan.layout),
                im2win_filters(weight, shape, plan.layout),
            ),
            lambda: multiply_windows(windows, filters, None, output, shape, plan),
            *theirs,
        )
    slicing = slicing_of(shape.kernel[0], shape.stride[0], shape.dilation[0])
    blocks = list(blocks_of(shape, slicing, plan, pictures.element_size()))
    buffer = windows_buffer(pictures, shape, slicing, plan)
    filters = filters_of(weight, buffer, shape, plan.layout)
    sums = [
        torch.empty(shape.filters, count * height * shape.output[1])
        for count, height in {block.counts for block in blocks}
    ]

    def transform() -> None:
        filters_of(weight, buffer, shape, plan.layout)
        for block in blocks:
            fill_windows(buffer, pictures, block, shape, slicing, plan.layout)

    def product() -> None:
        for block in blocks:
            columns = block.counts[0] * block.counts[1] * shape.output[1]
            (place,) = (each for each in sums if each.shape[1] == columns)
            multiply(place, filters, buffer, None, block, shape, slicing)

    return transform, product, *theirs


def medians(runs: list[Run], device: str, repeats: int, cpu_time: bool) -> list[float]:
    clock = CpuTimeClock() if cpu_time else clock_of(torch.device(device))
    return [statistics.median(times) for times in milliseconds(runs, clock, repeats)]


def resident_peak(method: str, shape: ConvShape, threads: int) -> int:
    """Bytes, in this process, which has computed nothing else."""
    torch.set_num_threads(threads)
    small = loads_code(shape)
    with torch.no_grad():
        whole(method, *operands(small, CPU), small, default_plan(small))
        pictures, weight = operands(shape, CPU)
        peak, _ = peak_of(lambda: whole(method, pictures, weight, shape, default_plan(shape)), CPU)
    return peak


def peaks(
    shape: ConvShape, plan: ConvPlan, pictures: Tensor, weight: Tensor, threads: int
) -> list[int]:
    if pictures.is_cuda:
        return [
            peak_of(lambda m=m: whole(m, pictures, weight, shape, plan), pictures.device)[0]
            for m in METHODS
        ]
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return [pool.apply(resident_peak, (method, shape, threads)) for method in METHODS]


@torch.no_grad()
def measure(name: str, asked: argparse.Namespace, device: str) -> tuple[list[float], list]:
    shape = paper_layer(name, asked.batch)
    plan = plan_of(shape, device, asked.tf32)
    pictures, weight = operands(shape, torch.device(device))
    expected = whole("torch", pictures, weight, shape, plan)
    error = float((whole("im2win", pictures, weight, shape, plan) - expected).abs().max())
    del expected
    if error > (1e-2 if asked.tf32 else 1e-5):
        raise SystemExit(f"{name}: differs from PyTorch's own by {error:.1e}")
    runs: list[Run] = [
        lambda method=method: whole(method, pictures, weight, shape, plan) for method in METHODS
    ]
    times = medians(
        [*runs, *parts(pictures, weight, shape, plan)], device, asked.repeats, asked.cpu_time
    )
    windows = im2win(pictures, shape).untyped_storage().nbytes()
    columns = F.unfold(pictures, shape.kernel, stride=shape.stride).untyped_storage().nbytes()
    return times, [windows / columns, *peaks(shape, plan, pictures, weight, asked.threads)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=LAYERS)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--tf32", action="store_true")
    asked = parser.parse_args()
    if asked.cpu_time and (asked.threads > 1 or torch.cuda.is_available()):
        parser.error("--cpu-time is for --threads 1, on a CPU")
    return asked


def main(asked: argparse.Namespace) -> int:
    torch.set_num_threads(asked.threads)
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    set_float32(asked.tf32)
    name = torch.cuda.get_device_name() if cuda else f"CPU, {asked.threads} threads"
    timed = "CPU time" if asked.cpu_time else "wall clock"
    print(f"{name}; torch {torch.__version__}; batch {asked.batch}; {timed}, ms and MiB\n")
    print(
        "| layer | im2win: transform | product | whole | im2col: transform | product | whole |"
        " torch | im2col / im2win | torch / im2win | windows / columns | MiB im2win | im2col |"
        f" torch |\n|---{'|--:' * 13}|"
    )
    faster, smaller, ratios = 0, 0, []
    for layer in asked.layers:
        times, (share, *memory) = measure(layer, asked, device)
        ours, im2col, theirs, transform, product, unfold, matmul = times
        faster += ours < im2col
        smaller += memory[0] < memory[1]
        ratios.append((im2col / ours, theirs / ours, share))
        cells = [transform, product, ours, unfold, matmul, im2col, theirs]
        sizes = [f"{size / MIB:.1f}" for size in memory]
        row = [f"{cell:.1f}" for cell in cells] + [f"{ratio:.2f}" for ratio in ratios[-1][:2]]
        print(f"| {layer} | {' | '.join([*row, f'{share:.3f}', *sizes])} |", flush=True)
    means = [statistics.mean(column) for column in zip(*ratios, strict=True)]
    count = len(asked.layers)
    print(
        f"\nMeans of ratios: im2col / im2win {means[0]:.2f}, torch / im2win {means[1]:.2f}, "
        f"windows / columns {means[2]:.3f}. Faster than im2col on {faster} of {count}, "
        f"less memory on {smaller} of {count}."
    )
    return int(not cuda and (faster < min(GOAL, count) or smaller < count))


if __name__ == "__main__":
    sys.exit(main(arguments()))
