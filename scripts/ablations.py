"""What each part of the method is worth: one training for each part that is left out or exchanged.

    python scripts/ablations.py --output runs/ablations

Every row trains `vit_t` on the nuclei that ship, from the same weights, on the same pictures in the
same order for the same number of steps, and is measured on test with boxes and with points. Before
its training: all layers, with the first half, quarter and eighth of their MLPs' neurons, where the
order is all that counts. After it: the parent, random subnets of its space with about 30 % and 50 %
fewer encoder parameters, of which the mean counts, and the smallest. A row that is done is kept in
the output directory and not repeated. The tables of docs/results.md are printed from what is there.
"""

import argparse
import itertools
import json
import random
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from automl.sam.config import PACKAGED_CHECKPOINTS, PACKAGED_DATA
from search_spaces.constraints import Constraint
from search_spaces.design import RELEASED_LAYERS, Design, DesignSpace
from search_spaces.feasible import sample_feasible
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace
from trainables.data.batches import AugmentSettings, training_batch
from trainables.data.calibration import calibration_batches
from trainables.data.pictures import Pictures
from trainables.data.prompts import PromptKind
from trainables.precision import Precision
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.examples import make_examples
from trainables.sam.layer_worth import layer_worth
from trainables.sam.models import load_sam
from trainables.sam.object_results import object_results, pictures_at_once
from trainables.sam.objectives import Distillation
from trainables.sam.sandwich import sandwich_step, sandwich_subnets
from trainables.sam.scores import SCORES, order_of
from trainables.sam.supernet import Supernet
from trainables.sam.units import reorder
from trainables.supernet import TrainingSettings, learning_rate_at, make_optimiser

SIZE, OBJECTS = 256, 8
TRAINED: PromptKind = "mixed"
MEASURED: tuple[PromptKind, ...] = ("box", "point")
MEASURED_OBJECTS = 6
SLICES = (2, 4, 8)
SMALLER, WITHIN, DRAWN = (0.3, 0.5), 0.02, 2
LEARNING_RATE = 1e-4
AUGMENT = AugmentSettings(smallest_crop=0.85, box_noise=0.02)
"""As in the parent's own training; more noise than it had last costs it 0.02 within 60 steps."""
NONE = Distillation()
Steps = Callable[[Supernet, list[Subnet], Any, torch.optim.Optimizer, TrainingSettings], None]


def accumulated(
    supernet: Supernet,
    subnets: list[Subnet],
    batch: Any,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
) -> None:
    """All subnets' gradients in one update: the sandwich step."""
    sandwich_step(supernet, [batch], subnets, optimiser, settings)


def sequential(
    supernet: Supernet,
    subnets: list[Subnet],
    batch: Any,
    optimiser: torch.optim.Optimizer,
    settings: TrainingSettings,
) -> None:
    """An update for each subnet, one after the other, as SuperSAM's released code makes them."""
    for subnet in subnets:
        sandwich_step(supernet, [batch], [subnet], optimiser, settings)


@dataclass(frozen=True)
class Variant:
    """One row: what differs from the reference."""

    name: str
    score: str | None = "wanda"
    distillation: Distillation = NONE
    probabilities: dict[int, float] | None = None
    steps: Steps = accumulated
    dense: bool = False
    trained: bool = True

    @property
    def slug(self) -> str:
        """In the names of files."""
        return re.sub(r"\W+", "-", self.name)


REFERENCE = Variant("reference")
VARIANTS = [
    Variant("the pretrained parent", dense=True, trained=False),
    Variant("the parent alone, fine-tuned", dense=True),
    REFERENCE,
    Variant("neurons as they stand", score=None),
    *(Variant(f"score: {name}", score=name) for name in SCORES if name != "wanda"),
    Variant("with distillation", distillation=Distillation(embedding=1, masks=1)),
    Variant("released drop probabilities", probabilities=RELEASED_LAYERS),
    Variant("three updates, one after the other", steps=sequential),
]


def design_of(variant: Variant) -> Design:
    """The default design, one with drop probabilities that are given, or the parent alone."""
    space = DesignSpace()
    if variant.dense:
        space = DesignSpace(removable=[0], expected_dropped=[0], width_count=[1])
    elif variant.probabilities:
        space = DesignSpace(probabilities=variant.probabilities)
    return space.design(space.first_points()[0])


def fresh() -> Supernet:
    """The parent."""
    return Supernet(load_sam("vit_t", PACKAGED_CHECKPOINTS["vit_t"])).eval()


def split(name: str) -> Pictures:
    """Of the nuclei that ship."""
    return Pictures(PACKAGED_DATA["nuclei"] / f"{name}.parquet")


def worth_of_layers(seed: int, folder: Path) -> list[float]:
    """mIoU of points lost without each layer, on 32 pictures; measured once a seed."""
    path = folder / f"worth-{seed}.json"
    if not path.exists():
        examples = EvaluationSet(
            split("train"),
            image_size=SIZE,
            prompts="point",
            seed=seed,
            limit=32,
            max_objects=OBJECTS,
        )
        found = [float(item.miou_lost or 0.0) for item in layer_worth(fresh(), examples)]
        path.write_text(json.dumps(found))
    worth: list[float] = json.loads(path.read_text())
    return worth


def measured_subnets(supernet: Supernet, space: SubnetSpace) -> dict[str, list[Subnet]]:
    """The parent, random subnets that are so much smaller, and the smallest."""
    found = {"parent": [space.largest]}
    if space.size == 1:
        return found

    def costs(subnet: Subnet) -> dict[str, int]:
        return supernet.costs.costs(subnet).to_dict()

    full = costs(space.largest)["encoder_params"]
    for share in SMALLER:
        floor, ceiling = ((1 - share + by) * full for by in (-WITHIN, WITHIN))
        bounds, rng = [Constraint("encoder_params", ceiling, floor)], random.Random(0)
        drawn: list[Subnet] = []
        for _ in range(DRAWN):
            subnet = sample_feasible(space, costs, bounds, rng, drawn)
            drawn += [] if subnet is None else [subnet]
        if drawn:
            found[f"-{share:.0%}"] = drawn
    return {**found, "smallest": [space.smallest]}


def run(
    variant: Variant, seed: int, steps: int, precision: Precision, folder: Path
) -> dict[str, Any]:
    """Train and measure one row."""
    supernet = fresh()
    design = design_of(variant)
    space = design.draw_up(
        worth_of_layers(seed, folder),
        supernet.largest.mlp_widths,
        tuple(heads.count for heads in supernet.encoder.attention_heads),
    )
    pictures = split("train")
    if variant.score is not None:
        batches = calibration_batches(
            pictures, 16, seed=seed, image_size=SIZE, max_objects=OBJECTS, prompts=TRAINED
        )
        neurons = supernet.encoder.neurons
        reorder(neurons, order_of(SCORES[variant.score](supernet, batches, seed, neurons)))
    settings = TrainingSettings(
        learning_rate=LEARNING_RATE,
        distillation=variant.distillation,
        augment=AUGMENT,
        precision=precision,
    )
    before = measure(supernet.eval(), sliced_subnets(supernet))
    optimiser = make_optimiser(supernet, settings)
    supernet.train()
    for step in range(steps if variant.trained else 0):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, steps, settings)
        batch = training_batch(
            pictures,
            step,
            seed=seed,
            batch_size=settings.batch_size,
            image_size=SIZE,
            max_objects=settings.max_objects,
            prompts=TRAINED,
            augment=settings.augment,
        )
        subnets = sandwich_subnets(space, step, seed=seed, n_random=settings.n_random)
        variant.steps(supernet, subnets, batch, optimiser, settings)
    after = measure(supernet.eval(), measured_subnets(supernet, space))
    return {
        "variant": variant.name,
        "seed": seed,
        "steps": steps,
        "before": before,
        "after": after,
    }


def sliced_subnets(supernet: Supernet) -> dict[str, list[Subnet]]:
    """All layers, with the first neurons of each MLP alone."""
    widths = supernet.largest.mlp_widths
    layers = supernet.largest.layers
    return {
        f"1/{part}": [Subnet(layers, tuple(width // part for width in widths))] for part in SLICES
    }


def measure(supernet: Supernet, subnets: dict[str, list[Subnet]]) -> dict[str, Any]:
    """For each column mIoU on test by prompt, and how much smaller the encoder is; both means."""
    examples = list(
        make_examples(
            split("test"),
            MEASURED,
            image_size=SIZE,
            seed=0,
            max_objects=MEASURED_OBJECTS,
            min_area=1,
        )
    )
    full = supernet.costs.costs(supernet.largest).encoder_params
    found: dict[str, Any] = {}
    for name, some in subnets.items():
        results = [
            result
            for subnet in some
            for result in object_results(
                supernet, subnet, examples, MEASURED, batch_size=pictures_at_once(SIZE)
            )
        ]
        found[name] = {
            kind: statistics.fmean(r.iou for r in results if r.kind == kind) for kind in MEASURED
        }
        costs = [supernet.costs.costs(subnet).encoder_params for subnet in some]
        found[name]["smaller"] = 1 - statistics.fmean(costs) / full
    return found


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """What was measured so far."""
    for path in sorted(folder.glob("row-*.json")):
        yield json.loads(path.read_text())


def table(folder: Path, when: str, columns: Sequence[str], title: str) -> Table:
    """Means over seeds, and the spread where there are several.

    Args:
        folder: with the rows.
        when: the key of a row's figures, `before` or `after`.
        columns: of these figures.
        title: of the table.
    """
    found = list(rows(folder))
    shown = Table(title=f"mIoU on test, {title}", title_justify="left")
    shown.add_column("variant")
    for name in ("seeds", *(f"{kind}, {column}" for kind in MEASURED for column in columns)):
        shown.add_column(name, justify="right")
    for variant in VARIANTS:
        own = [row for row in found if row["variant"] == variant.name]
        if not own:
            continue
        cells = []
        for kind, column in itertools.product(MEASURED, columns):
            values = [row[when][column][kind] for row in own if column in row[when]]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.3f}{spread}" if values else "–")
        shown.add_row(variant.name, str(len(own)), *cells)
    return shown


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for variant in VARIANTS:
            path = folder / f"row-{seed}-{variant.slug}.json"
            if not path.exists():
                row = run(variant, seed, arguments.steps, arguments.precision, folder)
                path.write_text(json.dumps(row))
                print(f"{path.name}: {row['before']} {row['after']}", flush=True)
    console = Console(width=160)
    slices = [f"1/{part}" for part in SLICES]
    console.print(table(folder, "before", slices, "sliced to a share of each MLP, untrained"))
    sizes = ["parent", *(f"-{share:.0%}" for share in SMALLER), "smallest"]
    console.print(table(folder, "after", sizes, "trained"))


if __name__ == "__main__":
    main()
