"""Pictures per second of two training processes beside one, each with one CPU thread.

    python benchmarks/data_parallel.py [STEPS]

Sandwich steps of the quick start's parent on its nuclei, 4 pictures a process and step, gradients
averaged by gloo. One after the other and then again, the best of each counts. The exit status is 1
below 1.6 times.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed as dist

from automl.sam.config import PACKAGED_CHECKPOINTS, PACKAGED_DATA
from search_spaces import SubnetSpace
from trainables.data.batches import AugmentSettings, training_batch
from trainables.data.pictures import Pictures
from trainables.sam.models import load_sam
from trainables.sam.sandwich import sandwich_step, sandwich_subnets
from trainables.sam.supernet import Supernet
from trainables.supernet import TrainingSettings, make_optimiser

EACH = 4
WARM_UP = 2
GOAL = 1.6


def work(rank: int, world_size: int, steps: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    supernet = Supernet(load_sam("vit_t", PACKAGED_CHECKPOINTS["vit_t"])).train()
    space = SubnetSpace(((176, 352, 704),) * 12, (0.0,) + (0.3,) * 5 + (0.0,) * 6)
    settings = TrainingSettings(batch_size=EACH * world_size)
    optimiser = make_optimiser(supernet, settings)
    pictures = Pictures(PACKAGED_DATA["nuclei"] / "train.parquet")
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            dist.barrier()
            start = time.perf_counter()
        batch = training_batch(
            pictures,
            step,
            seed=0,
            batch_size=settings.batch_size,
            image_size=256,
            max_objects=settings.max_objects,
            prompts="point",
            augment=AugmentSettings(),
            rank=rank,
            world_size=world_size,
        )
        subnets = sandwich_subnets(space, step, seed=0, n_random=1)
        sandwich_step(supernet, [batch], subnets, optimiser, settings)
    dist.barrier()
    if rank == 0:
        seconds = time.perf_counter() - start
        Path(folder, "rate").write_text(str(steps * settings.batch_size / seconds))
    dist.destroy_process_group()


def rate(world_size: int, steps: int) -> float:
    """Pictures per second of all processes together."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (world_size, steps, folder), nprocs=world_size)
        return float(Path(folder, "rate").read_text())


def main(steps: int) -> int:
    best = {1: 0.0, 2: 0.0}
    for _ in range(2):
        for world_size in best:
            best[world_size] = max(best[world_size], rate(world_size, steps))
    for world_size, found in best.items():
        print(f"{world_size} process(es): {found:.2f} pictures/s")
    ratio = best[2] / best[1]
    print(f"{ratio:.2f} times (goal ≥ {GOAL})")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
