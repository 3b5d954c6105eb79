"""A slimmed network as files: its weights, and what it takes to build it again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from search_spaces.errors import InputError
from trainables.channel_pruning.data.batches import MEAN, STD
from trainables.channel_pruning.dependencies import prunable_groups, slimmed
from trainables.channel_pruning.groups import Kept
from trainables.channel_pruning.networks import NETWORKS

WEIGHTS, DESCRIPTION = "model.safetensors", "network.json"


def save_slimmed(
    network: nn.Module,
    name: str,
    classes: tuple[str, ...],
    image_size: int,
    kept: Kept,
    folder: Path,
) -> None:
    """Write a slimmed network into a folder, which must exist.

    Args:
        network: slimmed, of whatever weights.
        name: of the network that it was made from.
        classes: names, in the order of its logits.
        image_size: side of its pictures, pixels.
        kept: the channels that it has.
    """
    weights = {key: t.detach().cpu().contiguous() for key, t in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    description = {
        "network": name,
        "classes": list(classes),
        "image_size": image_size,
        "mean": MEAN,
        "std": STD,
        "kept": kept,
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def load_slimmed(folder: Path, build: Callable[[int], nn.Module] | None = None) -> nn.Module:
    """The network that `save_slimmed` wrote, in eval mode.

    Args:
        folder: its own.
        build: makes the unpruned network from its number of classes; needed for a network of one's
            own: no code that a file names is run.

    Raises:
        InputError: a file is missing or another network's.
    """
    for file in (WEIGHTS, DESCRIPTION):
        if not (folder / file).is_file():
            raise InputError(f"{folder / file} does not exist; give the folder of a pruned network")
    description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
    size = description["image_size"]
    name, classes = description["network"], len(description["classes"])
    if build is None and name not in NETWORKS:
        raise InputError(
            f"{folder / DESCRIPTION}: the network {name!r} is none of {', '.join(NETWORKS)}; give "
            "the function that makes it as `build`"
        )
    network = (build or NETWORKS[name])(classes)
    groups = prunable_groups(network, size)
    small = slimmed(network, groups, description["kept"], size)
    try:
        small.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / WEIGHTS} is another network's: {reason}") from error
    return small.eval()
