"""What is measured outside the searches: the unpruned network, and the final front.

Each function runs as one Ray task and yields as it goes on, so that progress can be seen.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from automl.channel_pruning.workspace import PruningWorkspace, device, kept_of
from automl.ledger import Row
from trainables.channel_pruning.checkpoints import WEIGHTS
from trainables.channel_pruning.costs import count_params
from trainables.channel_pruning.data.batches import normalised, plain_batches
from trainables.channel_pruning.evaluation import accuracy
from trainables.channel_pruning.export import TOLERANCE, onnx_difference, write_onnx
from trainables.channel_pruning.groups import Kept
from trainables.channel_pruning.latency import latencies
from trainables.channel_pruning.masked import MaskedNetwork
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.standalone import load_slimmed, save_slimmed

ONNX = "model.onnx"
CHECKED = 8
"""Pictures on which a network is compared with what it should equal."""
EXACT = 1e-5
"""How far a slimmed network may be from the masked one: |slimmed − masked| / max(1, |masked|)."""


def measure_parent(workspace: PruningWorkspace) -> Iterator[Row]:
    """The unpruned network's own figures.

    Yields:
        Its costs, then its accuracy on val, then that on test.
    """
    prunable = workspace.prunable()
    network, size = prunable.network, workspace.config.image_size
    yield {
        "network": workspace.config.network,
        "classes": list(workspace.classes),
        "groups": [group.name for group in prunable.groups],
        "channels": list(prunable.widths),
        "params": count_params(network),
        "macs": prunable.table.macs(prunable.widths),
        "latency_ms": latencies([network], size)[0],
    }
    for split in ("val", "test"):
        yield {f"accuracy_{split}": _accuracy(workspace, network, split)}


def measure_on_val(workspace: PruningWorkspace, tuned: Sequence[tuple[Row, Path]]) -> Iterator[Row]:
    """Measure fine-tuned networks on val.

    Args:
        workspace: of the study.
        tuned: for each network its row of the search, and the folder of its checkpoint.

    Yields:
        A row of the ledger for each.
    """
    prunable = workspace.prunable()
    for row, checkpoint in tuned:
        start = time.perf_counter()
        network = _tuned(prunable, row, checkpoint)
        found = {"accuracy_val": _accuracy(workspace, network, "val")}
        yield _row(workspace, row, "val", start) | found


def write_networks(workspace: PruningWorkspace, tuned: Sequence[tuple[Row, Path]]) -> Iterator[Row]:
    """Measure networks on test, and write each as a network of its own and as ONNX.

    Args:
        workspace: of the study.
        tuned: for each network its row on val, and the folder of its checkpoint.

    Yields:
        A row of the ledger on test for each, and how far the slimmed network, before fine-tuning,
        is from the masked one, and ONNX from the network.

    Raises:
        RuntimeError: a slimmed network is not the masked one, or ONNX not the network.
    """
    prunable = workspace.prunable()
    for row, checkpoint in tuned:
        start, kept = time.perf_counter(), kept_of(row, prunable)
        differences = {"masked_difference": masked_difference(workspace, prunable, kept)}
        network = _tuned(prunable, row, checkpoint)
        found = {"accuracy_test": _accuracy(workspace, network, "test")}
        differences["onnx_difference"] = _write(workspace, network, kept, row["network"])
        yield _row(workspace, row, "test", start) | found | differences


def measure_latencies(workspace: PruningWorkspace, keys: Sequence[str]) -> Iterator[list[float]]:
    """Time the written networks beside the unpruned one, in turns.

    Yields:
        Milliseconds of one picture: the unpruned network's, then each one's.
    """
    prunable = workspace.prunable()
    networks = [_alone(workspace, key).to(device()) for key in keys]
    yield latencies([prunable.network, *networks], workspace.config.image_size)


@torch.no_grad()
def masked_difference(workspace: PruningWorkspace, prunable: Prunable, kept: Kept) -> float:
    """How far the slimmed network's logits are from the masked one's, before any fine-tuning.

    In double precision, so that it says whether the right channels went, and not how a device
    rounds.

    Returns:
        The largest |slimmed − masked| / max(1, |masked|) on some pictures of val.

    Raises:
        RuntimeError: it is more than `EXACT`.
    """
    exact = replace(prunable, network=copy.deepcopy(prunable.network).cpu().double().eval())
    some = normalised(_pictures(workspace)).double()
    masks = []
    for group in exact.groups:
        mask = torch.zeros(group.channels, dtype=torch.float64)
        mask[list(kept[group.name])] = 1
        masks.append(mask)
    masked = MaskedNetwork(exact.network, exact.groups, "both")(some, masks)
    away = float(((exact.slimmed(kept)(some) - masked).abs() / masked.abs().clamp(min=1)).max())
    if not away <= EXACT:
        raise RuntimeError(f"a slimmed network is {away:.2g} away from the masked one")
    return away


def _write(workspace: PruningWorkspace, network: nn.Module, kept: Kept, key: str) -> float:
    """Write a network with its ONNX; returns how far that is from the network."""
    folder, config = workspace.network_folder(key), workspace.config
    folder.mkdir(parents=True, exist_ok=True)
    alone = network.cpu()
    save_slimmed(alone, config.network, workspace.classes, config.image_size, kept, folder)
    write_onnx(alone, config.image_size, folder / ONNX)
    away = onnx_difference(folder / ONNX, _alone(workspace, key), _pictures(workspace))
    if not away <= TOLERANCE:
        raise RuntimeError(f"{folder / ONNX} gives logits that are {away:.2g} away from its own")
    return away


def _alone(workspace: PruningWorkspace, key: str) -> nn.Module:
    """A written network, from its files."""
    return load_slimmed(workspace.network_folder(key), workspace.build)


def _pictures(workspace: PruningWorkspace) -> torch.Tensor:
    """Some pictures of val, [B, 3, S, S] in [0, 1]."""
    size = workspace.config.image_size
    batches = plain_batches(workspace.images("val"), batch_size=CHECKED, image_size=size)
    return next(batches).pictures


def _tuned(prunable: Prunable, row: Row, checkpoint: Path) -> nn.Module:
    """A slimmed network with the weights of its fine-tuning, where the unpruned one is."""
    network = prunable.slimmed(kept_of(row, prunable))
    network.load_state_dict(load_file(checkpoint / WEIGHTS))
    return network.eval()


def _accuracy(workspace: PruningWorkspace, network: nn.Module, split: str) -> float:
    config = workspace.config
    measured = partial(accuracy, image_size=config.image_size, device=device())
    images = workspace.images(split)
    return measured(network, images, batch_size=config.evaluation.batch_size)


def _row(workspace: PruningWorkspace, row: Row, split: str, start: float) -> dict[str, Any]:
    """What the row of a fine-tuned network has of its row in the search."""
    return {
        **row,
        "split": split,
        "tuning_steps": workspace.config.final.tuning_steps,
        "accuracy_val": None,
        "pictures": len(workspace.images(split)),
        "seconds": time.perf_counter() - start,
    }
