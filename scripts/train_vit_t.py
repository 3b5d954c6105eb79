"""Train the parent that ships with the project, `vit_t`, on nuclei.

    python scripts/train_vit_t.py --data DIR --start mobile_sam.pt --output runs/vit_t

DIR holds the Parquet splits that `supersam prepare` writes. Started from a SAM checkpoint such as
MobileSAM's, prompt encoder and mask decoder have its weights and the image encoder random ones;
`--start vit_t.safetensors` trains all of it further. The training is the project's own loop with a
space of one subnet; stopped and started again, it goes on from its last checkpoint.
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from search_spaces.subnet_space import SubnetSpace
from trainables.data.batches import AugmentSettings
from trainables.data.pictures import Pictures
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.models import (
    build_sam,
    load_sam,
    read_state_dict,
    save_state_dict,
)
from trainables.sam.parents import PARENTS
from trainables.sam.supernet import Supernet
from trainables.supernet import WEIGHTS, TrainingSettings, train_supernet


def fresh_parent(start: Path, seed: int) -> Supernet:
    """A `vit_t` with the weights of `start`, and with a random encoder where it has another."""
    if start.suffix == ".safetensors":
        return Supernet(load_sam("vit_t", start))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sam = build_sam(PARENTS["vit_t"])
        for p in sam.image_encoder.parameters():
            if p.ndim >= 2:
                torch.nn.init.trunc_normal_(p, std=0.02)
    known = read_state_dict(start)
    others = {n: t for n, t in known.items() if not n.startswith("image_encoder.")}
    sam.load_state_dict(sam.state_dict() | others)
    return Supernet(sam)


def main() -> None:
    """Train, then write fp16 weights and print what they score on test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--smallest-crop", type=float, default=0.5)
    parser.add_argument("--box-noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    checkpoint = arguments.output / "checkpoint"
    arguments.output.mkdir(parents=True, exist_ok=True)

    supernet = fresh_parent(arguments.start, arguments.seed)
    full = supernet.largest.mlp_widths
    space = SubnetSpace(tuple((w,) for w in full), (0.0,) * len(full))
    settings = TrainingSettings(
        batch_size=8,
        learning_rate=arguments.learning_rate,
        weight_decay=0.05,
        warmup=50,
        checkpoint_every=100,
        augment=AugmentSettings(
            smallest_crop=arguments.smallest_crop, box_noise=arguments.box_noise
        ),
    )
    started = time.monotonic()

    def report(metrics: dict[str, Any], folder: Path | None) -> None:
        if metrics["step"] % 20 == 0:
            seconds = time.monotonic() - started
            print(f"{seconds:7.0f} s  step {metrics['step']:5d}  {metrics['loss']:.4f}", flush=True)
        if folder is not None:
            new = checkpoint.with_name("checkpoint.new")
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(folder, new)
            shutil.rmtree(checkpoint, ignore_errors=True)
            new.replace(checkpoint)

    train_supernet(
        supernet,
        space,
        Pictures(arguments.data / "train.parquet"),
        settings,
        steps=arguments.steps,
        horizon=arguments.steps,
        prompts="mixed",
        seed=arguments.seed,
        checkpoint=checkpoint if (checkpoint / WEIGHTS).exists() else None,
        report=report,
    )
    half = {name: t.half() for name, t in supernet.sam.state_dict().items()}
    save_state_dict(half, arguments.output / "vit_t.safetensors", torch.float16)
    supernet.sam.load_state_dict({name: t.float() for name, t in half.items()})
    for split in ("val", "test"):
        pictures = Pictures(arguments.data / f"{split}.parquet")
        for prompts in ("box", "point"):
            examples = EvaluationSet(pictures, image_size=256, prompts=prompts, seed=0)
            metrics = examples.evaluate(supernet, supernet.largest)
            print(f"{split} {prompts}: {metrics}, the box as a mask {examples.box_miou():.3f}")


if __name__ == "__main__":
    main()
