"""Checkpoints of a training: weights, the optimiser's state, and a few values."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from search_spaces.errors import InputError
from trainables.checksums import write_checksums

WEIGHTS, OPTIMISER, STATE = "weights.safetensors", "optimiser.pt", "state.json"

Report = Callable[[dict[str, Any], Path | None], None]
"""Called after each step with the metrics, and with a folder to keep where a checkpoint is due."""


def save_checkpoint(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: dict[str, Any],
    folder: Path,
    others: Mapping[str, nn.Module] = MappingProxyType({}),
) -> None:
    """Write a training into a folder, which must exist, with checksums.

    Args:
        module: what the training is for.
        optimiser: of what is trained.
        state: JSON; under `key` what the training is one of.
        folder: to write to.
        others: by name what else a training needs to go on.
    """
    for path, each in _files(module, others, folder).items():
        save_file({name: t.detach().contiguous() for name, t in each.state_dict().items()}, path)
    with (folder / OPTIMISER).open("wb") as file:  # torch itself does not say that a disk is full
        torch.save(optimiser.state_dict(), file)
    (folder / STATE).write_text(json.dumps(state, indent=2) + "\n")
    write_checksums(folder)


def load_checkpoint(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    key: str,
    folder: Path,
    others: Mapping[str, nn.Module] = MappingProxyType({}),
) -> dict[str, Any]:
    """Put weights and the optimiser's state in place; returns the values.

    Raises:
        InputError: the checkpoint is another training's.
    """
    state: dict[str, Any] = json.loads((folder / STATE).read_text())
    if state["key"] != key:
        raise InputError(
            f"{folder}: the checkpoint is of the training {state['key']}, not {key}; "
            "train anew in another output directory"
        )
    for path, each in _files(module, others, folder).items():
        each.load_state_dict(load_file(path))
    optimiser.load_state_dict(torch.load(folder / OPTIMISER, weights_only=True))
    return state


def _files(
    module: nn.Module, others: Mapping[str, nn.Module], folder: Path
) -> dict[Path, nn.Module]:
    own = {folder / WEIGHTS: module}
    return own | {folder / f"{name}.safetensors": each for name, each in others.items()}
