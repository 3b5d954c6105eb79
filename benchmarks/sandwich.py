"""One sandwich step of ViT-B at 256 px beside dense steps, in one run.

    python benchmarks/sandwich.py [REPEATS]

On two CPU threads, with batches of 2 pictures of 4 point prompts each: largest, smallest and one
random subnet in one update, beside the sum of the three subnets' own dense steps as standalone
models; and its peak memory beside a dense step's of the parent, the median of three processes. For
comparison a step as SuperSAM's released code makes it: each subnet copied out, an optimiser of its
own, and the difference added back. The exit status is 1 where a goal is not met.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from search_spaces import Subnet
from trainables.data.batches import Batch
from trainables.data.prompts import Prompts
from trainables.footprint import ResidentMemory
from trainables.sam.models import build_sam
from trainables.sam.parents import parent_encoder
from trainables.sam.sandwich import StepSettings, sandwich_step
from trainables.sam.standalone import extract
from trainables.sam.supernet import Supernet
from trainables.supernet import TrainingSettings, make_optimiser

THREADS = 2
PROCESSES = 3
IMAGE_SIZE = 256
CONFIG = parent_encoder("vit_b", IMAGE_SIZE)
LARGEST = Subnet(tuple(range(12)), CONFIG.mlp_widths)
# SuperSAM's released space: layers 1, 2, 5, 6 and 9 removable, MLPs from a quarter on.
SMALLEST = Subnet((0, 3, 4, 7, 8, 10, 11), (3072,) + (768,) * 6)
RANDOM = Subnet((0, 1, 3, 4, 5, 7, 8, 10, 11), (3072,) + (1536,) * 8)
SUBNETS = (LARGEST, SMALLEST, RANDOM)
Step = Callable[[], object]


def make_batch() -> Batch:
    rng = torch.Generator().manual_seed(0)
    corners = torch.randint(16, 160, (2, 4, 2), generator=rng)
    targets = [torch.zeros(4, IMAGE_SIZE, IMAGE_SIZE) for _ in range(2)]
    for target, places in zip(targets, corners, strict=True):
        for mask, (x, y) in zip(target, places.tolist(), strict=True):
            mask[y : y + 64, x : x + 64] = 1
    prompts = [Prompts(points=(places + 32.0)[:, None]) for places in corners]
    return Batch(torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=rng), targets, prompts)


def make_supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(build_sam(CONFIG)).train()


def stepper(supernet: Supernet, subnets: tuple[Subnet, ...], batch: Batch) -> Step:
    optimiser = make_optimiser(supernet, TrainingSettings(learning_rate=1e-6))
    return lambda: sandwich_step(supernet, [batch], subnets, optimiser, StepSettings())


def released(supernet: Supernet, batch: Batch) -> Step:
    """Three updates, one after the other, each on a copy."""

    def step() -> None:
        for subnet in SUBNETS:
            copy = Supernet(extract(supernet.sam, CONFIG, subnet)).train()
            before = [p.detach().clone() for p in copy.trained_parameters()]
            stepper(copy, (copy.largest,), batch)()
            moved = movement(copy, before)
            add_back(supernet, subnet, moved)

    return step


def movement(copy: Supernet, before: list[Tensor]) -> dict[str, Tensor]:
    names = [
        name
        for name, _ in copy.sam.named_parameters()
        if name.startswith(("image_encoder.", "mask_decoder."))
    ]
    after = dict(copy.sam.named_parameters())
    return {name: after[name].detach() - old for name, old in zip(names, before, strict=True)}


@torch.no_grad()
def add_back(supernet: Supernet, subnet: Subnet, moved: dict[str, Tensor]) -> None:
    parameters = dict(supernet.sam.named_parameters())
    for name, difference in moved.items():
        parts = name.split(".")
        if name.startswith("image_encoder.blocks."):
            parts[2] = str(subnet.layers[int(parts[2])])
        target = parameters[".".join(parts)]
        target[tuple(slice(0, size) for size in difference.shape)] += difference


def steps_to_time(batch: Batch) -> dict[str, Step]:
    supernet = make_supernet()
    alone = [Supernet(extract(supernet.sam, CONFIG, subnet)).train() for subnet in SUBNETS]
    dense = {
        f"dense, {name}": stepper(model, (model.largest,), batch)
        for name, model in zip(("largest", "smallest", "random"), alone, strict=True)
    }
    return {
        "sandwich": stepper(supernet, SUBNETS, batch),
        **dense,
        "as released": released(make_supernet(), batch),
    }


def memory_of(kind: str) -> int:
    """Bytes that a step takes beyond the weights, in this process."""
    torch.set_num_threads(THREADS)
    batch, supernet = make_batch(), make_supernet()
    step = {
        "dense": lambda: stepper(supernet, (LARGEST,), batch),
        "sandwich": lambda: stepper(supernet, SUBNETS, batch),
        "as released": lambda: released(supernet, batch),
    }[kind]()
    memory = ResidentMemory()
    for _ in range(2):
        step()
    grown = memory.grown()
    assert grown is not None, "peak memory can't be read on this system"
    return grown + sum(p.numel() * 4 for p in supernet.parameters())


def in_a_process(kind: str) -> int:
    done = subprocess.run(
        [sys.executable, __file__, "--memory", kind], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def in_processes(kinds: tuple[str, ...]) -> dict[str, int]:
    """By kind the median of several processes, in turn: where threads free memory differs a bit."""
    grown = [{kind: in_a_process(kind) for kind in kinds} for _ in range(PROCESSES)]
    return {kind: round(statistics.median(each[kind] for each in grown)) for kind in kinds}


def main(repeats: int) -> int:
    torch.set_num_threads(THREADS)
    steps = steps_to_time(make_batch())
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(times[1:]) for name, times in taken.items()}
    for name, median in seconds.items():
        print(f"{name:16} {median:6.2f} s")
    together = sum(median for name, median in seconds.items() if name.startswith("dense"))
    del steps
    memory = in_processes(("dense", "sandwich", "as released"))
    for name, grown in memory.items():
        print(f"{name:16} {grown / 1e9:6.2f} GB")
    time_ratio = seconds["sandwich"] / together
    memory_ratio = memory["sandwich"] / memory["dense"]
    print(f"time:   {time_ratio:.3f} × the sum of the dense steps (goal ≤ 1.05)")
    print(f"memory: {memory_ratio:.3f} × a dense step's (goal ≤ 1.10)")
    print(
        f"as released: {seconds['as released'] / together:.3f} × the sum, "
        f"{memory['as released'] / memory['dense']:.3f} × the memory"
    )
    return 0 if time_ratio <= 1.05 and memory_ratio <= 1.10 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(memory_of(sys.argv[2]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
