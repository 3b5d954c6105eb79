"""The image encoder of ViT-B beside segment_anything's own, in one run.

    python benchmarks/encoder.py [--training]

On two CPU threads: a forward at 1024 px, its time (the two in turn, ratio of medians) and its peak
memory beyond the weights (each in a process of its own); and a subnet's sliced forward at 256 px
beside the extracted model's. The exit status is 1 where a goal is not met. `--training` adds time
and memory of a forward and backward pass at 1024 px, which takes minutes. Where there is a GPU it
also prints pictures per second and memory of batches of 8 at 1024 px.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from search_spaces import Subnet
from trainables.footprint import ResidentMemory
from trainables.sam.encoder import elastic
from trainables.sam.models import build_sam
from trainables.sam.parents import parent_encoder
from trainables.sam.segment_anything_import import Sam
from trainables.sam.standalone import extract

THREADS = 2
SUBNET = Subnet((0, 1, 2, 4, 5, 6, 8, 10, 11), (1536, 3072, 1024, 2048, 1536, 768, 3072, 1536, 768))
"""About half of ViT-B, with layers of both kinds."""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """A measured ratio and the most that it may be."""

    what: str
    measured: float
    goal: float
    details: str

    @property
    def met(self) -> bool:
        return self.measured <= self.goal


def main(training: bool) -> int:
    torch.set_num_threads(THREADS)
    load = os.getloadavg()[0]
    print(f"{THREADS} threads, torch {torch.__version__}, load {load:.1f} before")
    print(f"{'ratio of ours to':44} measured   goal", flush=True)
    all_met = True
    for measure_row in (memory_at_1024, sliced_at_256, time_at_1024):
        row = measure_row()
        all_met = all_met and row.met
        verdict = "met" if row.met else "NOT MET"
        numbers = f"{row.measured:8.3f} ≤{row.goal:5.2f}"
        print(f"{row.what:44} {numbers}  {verdict:8} {row.details}", flush=True)
    if training:
        for kind in ("theirs", "ours", "recomputed"):
            seconds, peak = in_a_process(kind, "training")
            print(f"forward and backward, {kind:10}: {seconds:5.1f} s, {peak / 1e9:5.2f} GB")
    if torch.cuda.is_available():
        on_gpu()
    return 0 if all_met else 1


def vit_b(image_size: int) -> Sam:
    """ViT-B with values in its position tables, which are zero when fresh."""
    torch.manual_seed(0)
    sam = build_sam(parent_encoder("vit_b", image_size))
    for name, p in sam.image_encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(p, std=0.3)
    return sam


def runs_of(sam: Sam) -> dict[str, Run]:
    encoder = elastic(sam.image_encoder)
    return {
        "theirs": sam.image_encoder,
        "ours": partial(encoder, subnet=encoder.largest),
        "recomputed": partial(encoder, subnet=encoder.largest, recompute=True),
    }


@torch.no_grad()
def in_turn(runs: Sequence[Run], pictures: Tensor, repeats: int) -> list[float]:
    """Median seconds of each, after one round that is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run(pictures)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def time_at_1024() -> Row:
    runs = runs_of(vit_b(1024))
    pictures = torch.randn(1, 3, 1024, 1024)
    ours, theirs = in_turn([runs["ours"], runs["theirs"]], pictures, 5)
    details = f"{ours:.2f} s, {theirs:.2f} s: {theirs / ours:.2f} × faster"
    return Row("segment_anything's time at 1024 px", ours / theirs, 1 / 1.3, details)


def memory_at_1024() -> Row:
    ours, theirs = (in_a_process(kind, "forward")[1] for kind in ("ours", "theirs"))
    details = f"{ours / 1e9:.2f} GB, {theirs / 1e9:.2f} GB"
    return Row("segment_anything's peak memory at 1024 px", ours / theirs, 0.5, details)


def sliced_at_256() -> Row:
    sam = vit_b(256)
    alone = extract(sam, parent_encoder("vit_b", 256), SUBNET).image_encoder
    sliced = partial(elastic(sam.image_encoder), subnet=SUBNET)
    ours, theirs = in_turn([sliced, alone], torch.randn(1, 3, 256, 256), 40)
    details = f"{1000 * ours:.0f} ms, {1000 * theirs:.0f} ms"
    return Row("the extracted model's time at 256 px", ours / theirs, 1.03, details)


def in_a_process(kind: str, what: str) -> tuple[float, int]:
    """Seconds and peak bytes beyond the weights of one pass at 1024 px, on a CPU."""
    command = [sys.executable, __file__, "--measure", kind, what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def measure(kind: str, what: str) -> None:
    torch.set_num_threads(THREADS)
    run, pictures = runs_of(vit_b(1024))[kind], torch.randn(1, 3, 1024, 1024)
    memory, start = ResidentMemory(), time.perf_counter()
    with torch.no_grad() if what == "forward" else nullcontext():
        output = run(pictures)
    if what == "training":
        output.square().mean().backward()
    print(json.dumps([time.perf_counter() - start, memory.grown()]))


def on_gpu() -> None:
    """Batches of 8 at 1024 px: a forward, and a training step with its update."""
    sam = vit_b(1024)
    runs = runs_of(sam.to("cuda"))
    pictures = torch.randn(8, 3, 1024, 1024, device="cuda")
    optimiser = torch.optim.AdamW(sam.image_encoder.parameters(), lr=1e-6)
    print(f"{torch.cuda.get_device_name()}, batches of 8 at 1024 px")
    for training in (False, True):
        for dtype in (torch.float32, torch.bfloat16):
            for kind, run in runs.items():
                if training or kind != "recomputed":
                    rate, peak = gpu_rate(run, pictures, dtype, optimiser if training else None)
                    name = f"{'training' if training else 'forward'} {str(dtype)[6:]} {kind}"
                    print(f"{name:28} {rate:7.1f} pictures/s {peak / 1e9:6.1f} GB", flush=True)


def gpu_rate(
    run: Run,
    pictures: Tensor,
    dtype: torch.dtype,
    optimiser: torch.optim.Optimizer | None,
    repeats: int = 10,
) -> tuple[float, int]:
    """Pictures per second by the median, and peak bytes; weights and optimiser included."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    times = []
    try:
        for _ in range(repeats + 3):
            torch.cuda.synchronize()
            start = time.perf_counter()
            with nullcontext() if optimiser else torch.no_grad():
                with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
                    output = run(pictures)
                if optimiser:
                    optimiser.zero_grad(set_to_none=True)
                    output.float().square().mean().backward()
                    optimiser.step()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    except torch.cuda.OutOfMemoryError:
        return 0.0, torch.cuda.max_memory_allocated()
    return len(pictures) / statistics.median(times[3:]), torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        sys.exit(main(training="--training" in sys.argv[1:]))
