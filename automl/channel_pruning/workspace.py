"""A pruning study's files, and what any process needs to work on it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from automl.base_workspace import BaseWorkspace
from automl.channel_pruning.config import PruningConfig, hyper_settings
from automl.channel_pruning.images import CLASSES, read_split
from automl.failures import reason
from automl.ledger import Row
from search_spaces.content_key import content_key
from search_spaces.errors import InputError
from search_spaces.pruner_design import PrunerDesign
from search_spaces.pruning_budget import PruningBudget
from trainables.channel_pruning.budgets import Budget, check_budget
from trainables.channel_pruning.checkpoints import WEIGHTS
from trainables.channel_pruning.data.image_set import ImageSet
from trainables.channel_pruning.data.reading import read_images
from trainables.channel_pruning.groups import Kept
from trainables.channel_pruning.hypernetwork import HyperNetwork
from trainables.channel_pruning.networks import find_network, load_network
from trainables.channel_pruning.prunable import Prunable
from trainables.data.splits import SplitRule


@dataclass(frozen=True)
class PruningWorkspace(BaseWorkspace):
    """The output directory of a study of channel pruning; args as of any."""

    config: PruningConfig

    @property
    def data(self) -> Path:
        """The prepared splits."""
        return self.root / "data"

    def source(self) -> dict[str, ImageSet]:
        """The data set as the user gave it, in splits; the seed does not change them.

        Raises:
            InputError: it can't be used.
        """
        assert self.config.data is not None
        split = self.config.split
        return read_images(self.config.data, SplitRule(split.val, split.test))

    def images(self, split: str) -> ImageSet:
        """A prepared split, bounded as the configuration says."""
        evaluation = self.config.evaluation
        limits = {"val": evaluation.val_pictures, "test": evaluation.test_pictures}
        return read_split(self.data, split, limits.get(split))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of their numbers."""
        return tuple(json.loads((self.data / CLASSES).read_text()))

    def load_network(self, classes: int) -> nn.Module:
        """The unpruned network with its weights, on the CPU.

        Raises:
            InputError: the weights are missing, damaged, or another network's.
        """
        assert self.config.weights is not None
        try:
            return load_network(self.config.network, self.config.weights, classes)
        except InputError as error:
            if not str(error).startswith("checkpoint: "):
                raise
            raise InputError(f"weights: {str(error).removeprefix('checkpoint: ')}") from error

    @property
    def build(self) -> Callable[[int], nn.Module]:
        """Makes the unpruned network from its number of classes."""
        return find_network(self.config.network)

    def check_network(self, network: nn.Module) -> Prunable:
        """The network with its groups of channels.

        Raises:
            InputError: it can't be pruned, or a budget is out of reach.
        """
        size = self.config.image_size
        try:
            prunable = Prunable.of(network, size)
        except InputError:
            raise
        except Exception as error:  # a network of the user's may raise anything
            raise InputError(
                f"network: {self.config.network} can't be run on pictures of {size} pixels, which "
                f"tells what its channels depend on: {reason(error)}"
            ) from error
        for budget in self.config.budgets.budgets():
            check_budget(prunable.table, macs_budget(budget))
        return prunable

    def prunable(self) -> Prunable:
        """The network, on the GPU where this process has one."""
        network = self.load_network(len(self.classes)).to(device())
        return Prunable.of(network, self.config.image_size)

    def hypernetwork(self, design: PrunerDesign, prunable: Prunable) -> HyperNetwork:
        """An untrained one, where the network is."""
        size, seed = self.config.image_size, self.config.seed
        made = HyperNetwork(hyper_settings(design), prunable.groups, size, seed=seed)
        return made.to(next(prunable.network.parameters()).device)

    def trained(self, design: PrunerDesign, prunable: Prunable, checkpoint: Path) -> HyperNetwork:
        """A trained one, from the folder of its checkpoint."""
        hypernetwork = self.hypernetwork(design, prunable)
        hypernetwork.load_state_dict(load_file(checkpoint / WEIGHTS))
        return hypernetwork

    def read_parent(self) -> dict[str, Any]:
        """The unpruned network's own figures."""
        parent: dict[str, Any] = json.loads((self.root / "parent.json").read_text())
        return parent

    @cached_property
    def parent_macs(self) -> int:
        """Of the unpruned network, one picture."""
        return int(self.read_parent()["macs"])

    def network_folder(self, key: str) -> Path:
        """Where a standalone network is, or will be."""
        return self.root / "networks" / key


def device() -> torch.device:
    """Where this process computes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def macs_budget(budget: PruningBudget) -> Budget:
    """As the trainables take it."""
    return Budget(share=budget.share, measure="macs", allocation=budget.allocation)


def weights_key(design: PrunerDesign, steps: int) -> str:
    """The ledger's name of a trained pruner."""
    return f"{design.key}@{steps}"


def network_key(weights: str, budget: PruningBudget) -> str:
    """The key of the network that a trained pruner leaves of a budget."""
    values = {"weights": weights, "share": budget.share, "allocation": budget.allocation}
    return content_key(values)


def kept_of(row: Row, prunable: Prunable) -> Kept:
    """The channels that stay, by group, of a row of the ledger."""
    pairs = zip(prunable.groups, row["kept"], strict=True)
    return {group.name: tuple(channels) for group, channels in pairs}
