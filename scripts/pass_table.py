"""PASS against torch-pruning's baselines: a CIFAR ResNet at shares of its MACs.

    python scripts/pass_table.py --data DIR --weights resnet20.th --output runs/pass

Every row prunes the same trained network to the same share of its MACs on the same train split, and
fine-tunes what is left for the same number of steps; it is measured on val after pruning and after
fine-tuning, and once on test. PASS's mask stage and the baselines' sparse learning take the same
number of steps; in the latter the network's weights learn, too. With `--adapt-epochs` the network
is fine-tuned before any row: its weights may come from other pictures than these. A row that is
done is kept in the output directory and not repeated; one that was stopped starts anew. The tables
of docs/results.md are printed from what is there.
"""

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import nn

from trainables.channel_pruning.baselines import BASELINES, BaselineSettings, Method, prune
from trainables.channel_pruning.budgets import Budget
from trainables.channel_pruning.costs import count_macs, count_params
from trainables.channel_pruning.data.image_set import ImageSet
from trainables.channel_pruning.data.reading import read_images
from trainables.channel_pruning.evaluation import accuracy, recalibrate
from trainables.channel_pruning.fine_tuning import FineTuneSettings, fine_tune
from trainables.channel_pruning.groups import ChannelGroup, Kept
from trainables.channel_pruning.hypernetwork import HyperNetwork, HyperSettings
from trainables.channel_pruning.mask_training import MaskSettings, train_masks
from trainables.channel_pruning.networks import build_network, load_network
from trainables.channel_pruning.prompt import PromptSettings
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.scoring import find_channels
from trainables.data.splits import SplitRule
from trainables.precision import Precision

SIZE, BATCH = 32, 128
LEARNING = BaselineSettings().learning
Images = dict[str, ImageSet]


@dataclass(frozen=True)
class Trial:
    """What a row is given."""

    prunable: Prunable
    images: Images
    share: float
    seed: int
    steps: int
    hypernetwork: Path
    transfer: "Transfer | None"
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Transfer:
    """A hypernetwork that was trained on another network."""

    weights: Path
    groups: Sequence[ChannelGroup]


@dataclass(frozen=True)
class Found:
    """The slimmed network, its channels, and the seconds and bytes that finding them took."""

    network: nn.Module
    kept: Kept
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)


Prune = Callable[[Trial], Found]


def by_pass(
    trial: Trial,
    hyper: HyperSettings,
    allocation: str = "global",
) -> Found:
    """Train prompt and hypernetwork, then remove the channels."""
    start, prunable = time.perf_counter(), trial.prunable
    budget = Budget.model_validate({"share": trial.share, "allocation": allocation})
    hypernetwork = HyperNetwork(hyper, prunable.groups, SIZE, seed=trial.seed)
    hypernetwork.to(device_of(prunable.network))
    losses: list[float] = []
    selection = train_masks(
        hypernetwork,
        prunable,
        trial.images["train"],
        budget,
        MaskSettings(checkpoint_every=10**9, precision=trial.precision),
        steps=trial.steps,
        horizon=trial.steps,
        seed=trial.seed,
        report=lambda metrics, _: losses.append(metrics["loss"]),
    )
    seconds = time.perf_counter() - start
    save_file(hypernetwork.state_dict(), trial.hypernetwork)
    kept = selection.kept(prunable.groups)
    return Found(prunable.slimmed(kept), kept, seconds, {"mask_losses": losses})


def by_transfer(trial: Trial, hyper: HyperSettings) -> Found:
    """Reuse the prompt and hypernetwork of another network as they are."""
    assert trial.transfer is not None
    start, prunable = time.perf_counter(), trial.prunable
    hypernetwork = HyperNetwork(hyper, trial.transfer.groups, SIZE, seed=trial.seed)
    hypernetwork.load_state_dict(load_file(trial.transfer.weights))
    hypernetwork.to(device_of(prunable.network))
    selection = find_channels(hypernetwork, prunable, Budget(share=trial.share))
    kept = selection.kept(prunable.groups)
    return Found(prunable.slimmed(kept), kept, time.perf_counter() - start)


def by_baseline(trial: Trial, method: Method) -> Found:
    """One of torch-pruning's methods."""
    start = time.perf_counter()
    pruned = prune(
        method,
        trial.prunable,
        trial.images["train"],
        Budget(share=trial.share),
        BaselineSettings(learning=LEARNING.model_copy(update={"precision": trial.precision})),
        learning_steps=trial.steps,
        seed=trial.seed,
    )
    return Found(pruned.network, pruned.kept, time.perf_counter() - start)


@dataclass(frozen=True)
class Variant:
    """One line of the table; `transfers` says that it needs another network's hypernetwork."""

    name: str
    prune: Prune
    transfers: bool = False


REFERENCE = HyperSettings()
VARIANTS = [
    Variant("PASS", partial(by_pass, hyper=REFERENCE)),
    *(Variant(name, partial(by_baseline, method=name)) for name in BASELINES),
    Variant(
        "PASS, no prompt",
        partial(by_pass, hyper=HyperSettings(prompt=PromptSettings(form="none"))),
    ),
    Variant(
        "PASS, independent heads",
        partial(by_pass, hyper=HyperSettings(recurrence="none")),
    ),
    Variant("PASS, uniform", partial(by_pass, hyper=REFERENCE, allocation="uniform")),
    Variant("PASS, no weight statistics", partial(by_pass, hyper=HyperSettings(statistics=()))),
    Variant("PASS, transferred", partial(by_transfer, hyper=REFERENCE), transfers=True),
]
NUMBERS = {variant.name: f"{i:02d}" for i, variant in enumerate(VARIANTS)}
"""Of variants, in the names of files."""


def device_of(network: nn.Module) -> torch.device:
    """Where a network is."""
    return next(network.parameters()).device


def measured(network: nn.Module, images: ImageSet) -> float:
    """Accuracy in eval mode."""
    return accuracy(network.eval(), images, image_size=SIZE, device=device_of(network))


def run(variant: Variant, trial: Trial, steps: int) -> dict[str, Any]:
    """Prune, fine-tune and measure one row."""
    found = variant.prune(trial)
    network, whole = found.network, trial.prunable.network
    pruned = copy.deepcopy(network)
    recalibrate(pruned, trial.images["train"], image_size=SIZE)
    start = time.perf_counter()
    fine_tune(
        network,
        trial.images["train"],
        FineTuneSettings(batch_size=BATCH, precision=trial.precision),
        steps=steps,
        horizon=steps,
        image_size=SIZE,
        seed=trial.seed,
    )
    return {
        "variant": variant.name,
        "share": trial.share,
        "seed": trial.seed,
        "mask_steps": trial.steps,
        "tuning_steps": steps,
        "pruned_val": measured(pruned, trial.images["val"]),
        "tuned_val": measured(network, trial.images["val"]),
        "tuned_test": measured(network, trial.images["test"]),
        "macs": count_macs(network, SIZE) / count_macs(whole, SIZE),
        "params": count_params(network) / count_params(whole),
        "pruning_seconds": found.seconds,
        "tuning_seconds": time.perf_counter() - start,
        "kept": {name: list(channels) for name, channels in found.kept.items()},
        **found.notes,
    }


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """What was measured so far."""
    for path in sorted(folder.glob("row-*.json")):
        yield json.loads(path.read_text())


def spread(values: Sequence[float], scale: float = 100) -> str:
    """Mean and, of several, standard deviation."""
    if not values:
        return "–"
    around = f" ± {scale * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{scale * statistics.fmean(values):.2f}{around}"


def table(folder: Path, share: float) -> Table:
    """Means over seeds, and the spread where there are several."""
    found = [row for row in rows(folder) if row["share"] == share]
    title = (
        f"{share:.0%} of the MACs: MACs that are left, accuracy on val when pruned, "
        "on val and test when fine-tuned (all %), seconds of pruning"
    )
    shown = Table(title=title, title_justify="left")
    names = ("variant", "seeds", "MACs", "pruned", "val", "test", "s")
    for name in names:
        first = name == "variant"
        shown.add_column(name, justify="left" if first else "right", no_wrap=True)
    for variant in VARIANTS:
        own = [row for row in found if row["variant"] == variant.name]
        if own:
            keys = ("macs", "pruned_val", "tuned_val", "tuned_test")
            cells = [spread([row[key] for row in own]) for key in keys]
            seconds = spread([row["pruning_seconds"] for row in own], 1)
            shown.add_row(variant.name, str(len(own)), *cells, seconds)
    return shown


def prepared(data: Path, most: int | None) -> Images:
    """The three splits in memory; where val is not given it is a fifth of train."""
    found = read_images(data, SplitRule(val=0.2, test=0.2))
    if most is not None:
        found = {
            split: images.subset(range(0, len(images), max(1, len(images) // most)))
            for split, images in found.items()
        }
    return {split: images.in_memory(SIZE) for split, images in found.items()}


def start(arguments: argparse.Namespace, images: Images, epoch: int) -> Prunable:
    """The network that all rows start from, first trained on these pictures where that is asked."""
    network = load_network(arguments.network, arguments.weights, len(images["train"].classes))
    network.to(arguments.device)
    adapted = arguments.output / "start.safetensors"
    if arguments.adapt_epochs and not adapted.exists():
        steps = round(arguments.adapt_epochs * epoch)
        fine_tune(
            network,
            images["train"],
            FineTuneSettings(batch_size=BATCH, recalibration=0, precision=arguments.precision),
            steps=steps,
            horizon=steps,
            image_size=SIZE,
            seed=0,
        )
        save_file(network.state_dict(), adapted)
    if arguments.adapt_epochs:
        network.load_state_dict(load_file(adapted))
    figures = {split: measured(network, part) for split, part in images.items()}
    (arguments.output / "unpruned.json").write_text(json.dumps(figures))
    return Prunable.of(network, SIZE)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--adapt-epochs", type=float, default=0, help="before any pruning")
    parser.add_argument("--mask-epochs", type=float, default=30)
    parser.add_argument("--tuning-epochs", type=float, default=30)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--only", nargs="+", help="names of variants", choices=list(NUMBERS))
    parser.add_argument("--transfer", type=Path, help="output directory of another network")
    parser.add_argument("--transfer-network", default="resnet20", help="which network that is")
    parser.add_argument("--pictures", type=int, help="of each split at most, to try the script")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Measure what is missing, then print the tables."""
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    images = prepared(arguments.data, arguments.pictures)
    epoch = max(1, len(images["train"]) // BATCH)
    prunable = start(arguments, images, epoch)
    others: Sequence[ChannelGroup] = ()
    if arguments.transfer:
        other = build_network(arguments.transfer_network, len(images["train"].classes))
        others = Prunable.of(other, SIZE).groups
    for seed, share, variant in itertools.product(arguments.seeds, arguments.shares, VARIANTS):
        asked = not arguments.only or variant.name in arguments.only
        name = f"{seed}-{round(100 * share)}"
        path = folder / f"row-{name}-{NUMBERS[variant.name]}.json"
        if not asked or path.exists() or (variant.transfers and not others):
            continue
        trial = Trial(
            prunable,
            images,
            share,
            seed,
            round(arguments.mask_epochs * epoch),
            folder / f"hyper-{name}-{NUMBERS[variant.name]}.safetensors",
            Transfer(arguments.transfer / f"hyper-{name}-00.safetensors", others)
            if others
            else None,
            arguments.precision,
        )
        row = run(variant, trial, round(arguments.tuning_epochs * epoch))
        part = path.with_suffix(".part")
        part.write_text(json.dumps(row))
        part.rename(path)
        print(f"{path.name}: {row['variant']} test {row['tuned_test']:.4f}", flush=True)
    console = Console()
    console.print(f"unpruned: {json.loads((folder / 'unpruned.json').read_text())}")
    for share in arguments.shares:
        console.print(table(folder, share))


if __name__ == "__main__":
    main()
