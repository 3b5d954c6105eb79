"""How much of a quick-start training step is spent waiting for its pictures.

    python benchmarks/loader.py [STEPS]

Prints the waiting and the step, with batches made one step ahead (as the training does it) and with
batches made when they are asked for.
"""

import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from automl.sam.config import PACKAGED_DATA, load_config
from automl.sam.workspace import Workspace
from trainables.data.ahead import one_ahead
from trainables.data.batches import Batch, training_batch
from trainables.data.pictures import Pictures
from trainables.sam.sandwich import sandwich_step, sandwich_subnets
from trainables.supernet import make_optimiser

WARM_UP = 2


def main(steps: int) -> None:
    config = load_config(Path(__file__).parent.parent / "configs" / "quickstart.yaml", [])
    torch.set_num_threads(int(config.resources.train_cpus))
    workspace = Workspace(config, Path.cwd())
    supernet = workspace.parent().train()
    space_of = config.designs.space
    layers = workspace.encoder.depth
    design = space_of.design(space_of.first_points()[0])
    space = workspace.draw_up(design, [layer / layers for layer in range(layers)])
    optimiser = make_optimiser(supernet, config.training)
    batch_of = partial(
        training_batch,
        Pictures(PACKAGED_DATA["nuclei"] / "train.parquet"),
        seed=config.seed,
        batch_size=config.training.batch_size,
        image_size=workspace.encoder.image_size,
        max_objects=config.training.max_objects,
        prompts=config.prompts,
        augment=config.training.augment,
    )

    def measure(name: str, batches: Iterator[tuple[int, Batch]]) -> None:
        waited = whole = 0.0
        before = time.perf_counter()
        for step, batch in batches:
            there = time.perf_counter()
            subnets = sandwich_subnets(space, step, seed=0, n_random=config.training.n_random)
            sandwich_step(supernet, [batch], subnets, optimiser, config.training)
            after = time.perf_counter()
            if step >= WARM_UP:
                waited, whole = waited + there - before, whole + after - before
            before = after
        print(
            f"{name}: waiting {1000 * waited / steps:.2f} ms of {1000 * whole / steps:.0f} ms a "
            f"step, {waited / whole:.2%}"
        )

    load = os.getloadavg()[0]
    print(f"{steps} steps of {config.training.batch_size} pictures, load {load:.1f} before")
    numbers = range(steps + WARM_UP)
    measure("one ahead   ", one_ahead(batch_of, numbers))
    measure("when needed ", ((step, batch_of(step)) for step in numbers))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
