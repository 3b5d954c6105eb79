"""The pruners that PASS is compared with: torch-pruning's own, with its own settings for CIFAR."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning as tp
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from search_spaces.errors import InputError
from trainables.channel_pruning.budgets import Budget, check_budget
from trainables.channel_pruning.cifar_resnet import PaddedShortcut
from trainables.channel_pruning.data.image_set import ImageSet
from trainables.channel_pruning.dependencies import (
    ShortcutPruner,
    example_pictures,
    run_network,
)
from trainables.channel_pruning.fine_tuning import FineTuneSettings, fine_tune
from trainables.channel_pruning.groups import ChannelGroup, Kept, all_kept
from trainables.channel_pruning.networks import classifier_name
from trainables.channel_pruning.prunable import Prunable

Method = Literal["random", "group_l1", "group_norm", "group_sl", "bn_scale", "growing_reg"]


class BaselineSettings(BaseModel):
    """How a baseline prunes.

    Args:
        rounds: into how many small steps torch-pruning divides the way to nothing; it stops where
            the budget is met.
        growths: how often growing regularisation grows while the network learns.
        learning: how a network learns to be sparse; the regulariser takes the weight decay's
            place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(400, ge=1)
    growths: int = Field(100, ge=1)
    learning: FineTuneSettings = FineTuneSettings(weight_decay=0.0, recalibration=0)


@dataclass(frozen=True)
class Baseline:
    """One of torch-pruning's methods.

    Args:
        pruner: from a network and what every pruner is given, to the pruner.
        learns: whether the network learns to be sparse first.
    """

    pruner: Callable[..., Any]
    learns: bool = False


class RandomImportance(tp.importance.Importance):
    """Scores by chance, from a generator of its own; torch-pruning's draws from the global one."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, group: Any) -> Tensor:
        """Of the group's channels: [C]."""
        return torch.rand(len(group[0].idxs), generator=self._generator)


def _random(network: nn.Module, seed: int, **given: Any) -> Any:
    return tp.pruner.BasePruner(network, importance=RandomImportance(seed), **given)


def _group_l1(network: nn.Module, seed: int, **given: Any) -> Any:
    importance = tp.importance.GroupMagnitudeImportance(p=1)
    return tp.pruner.BasePruner(network, importance=importance, **given)


def _group_norm(network: nn.Module, seed: int, **given: Any) -> Any:
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return tp.pruner.GroupNormPruner(network, importance=importance, **given)


def _group_sl(network: nn.Module, seed: int, **given: Any) -> Any:
    importance = tp.importance.GroupMagnitudeImportance(p=2, normalizer="max")
    return tp.pruner.GroupNormPruner(network, importance=importance, reg=5e-4, **given)


def _bn_scale(network: nn.Module, seed: int, **given: Any) -> Any:
    importance = tp.importance.BNScaleImportance()
    return tp.pruner.BNScalePruner(network, importance=importance, reg=1e-5, **given)


def _growing_reg(network: nn.Module, seed: int, **given: Any) -> Any:
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return tp.pruner.GrowingRegPruner(
        network, importance=importance, reg=1e-4, delta_reg=1e-5, **given
    )


BASELINES: dict[Method, Baseline] = {
    "random": Baseline(_random),
    "group_l1": Baseline(_group_l1),
    "group_norm": Baseline(_group_norm),
    "group_sl": Baseline(_group_sl, learns=True),
    "bn_scale": Baseline(_bn_scale, learns=True),
    "growing_reg": Baseline(_growing_reg, learns=True),
}
"""DepGraph (arXiv 2301.12900) is `group_norm`, and with sparse learning `group_sl`."""


@dataclass(frozen=True)
class Pruned:
    """What a baseline found.

    Args:
        network: the slimmed network.
        kept: the channels that stayed.
    """

    network: nn.Module
    kept: Kept


def prune(
    method: Method,
    prunable: Prunable,
    images: ImageSet,
    budget: Budget,
    settings: BaselineSettings,
    *,
    learning_steps: int,
    seed: int,
) -> Pruned:
    """Prune by one of torch-pruning's methods; the given network is left as it is.

    Args:
        prunable: the network.
        images: the train split, for methods that learn first.
        budget: of MACs, global; the pruner stops at the first of its small steps within it.
        learning_steps: of sparse learning, in methods that have it.
        seed: of `random`, and of the order of pictures.

    Raises:
        InputError: the budget is out of reach.
    """
    check_budget(prunable.table, budget)
    if budget.measure != "macs" or budget.allocation != "global":
        raise InputError("budget: baselines prune globally to a share of the MACs only")
    baseline = BASELINES[method]
    network = copy.deepcopy(prunable.network)
    pruner = _made(baseline, network, prunable.image_size, settings.rounds, seed)
    if baseline.learns:
        fine_tune(
            network,
            images,
            settings.learning,
            steps=learning_steps,
            horizon=learning_steps,
            image_size=prunable.image_size,
            seed=seed,
            regularise=_regulariser(pruner, network, learning_steps, settings.growths),
        )
    network.eval()
    return Pruned(network, _prune_to(pruner, network, prunable, budget))


def _made(baseline: Baseline, network: nn.Module, image_size: int, rounds: int, seed: int) -> Any:
    training = network.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = baseline.pruner(
            network,
            seed,
            example_inputs=example_pictures(network, image_size),
            forward_fn=run_network,
            global_pruning=True,
            pruning_ratio=1.0,
            iterative_steps=rounds,
            ignored_layers=[network.get_submodule(classifier_name(network))],
            customized_pruners={PaddedShortcut: ShortcutPruner()},
            # Without these all pruners of a process would share torch-pruning's own tables.
            in_channel_groups={},
            out_channel_groups={},
            num_heads={},
        )
    network.train(training)
    return pruner


def _regulariser(
    pruner: Any, network: nn.Module, steps: int, growths: int
) -> Callable[[int], None]:
    """What torch-pruning adds to the gradients of a step."""
    every = max(1, steps // growths)

    def regularise(step: int) -> None:
        pruner.regularize(network)
        if isinstance(pruner, tp.pruner.GrowingRegPruner) and (step + 1) % every == 0:
            pruner.update_reg()

    return regularise


def _prune_to(pruner: Any, network: nn.Module, prunable: Prunable, budget: Budget) -> Kept:
    """Prune step by step until the budget is met; returns what is left, by its first number."""
    limit = budget.share * prunable.table.macs(prunable.widths)
    names = {module: name for name, module in network.named_modules()}
    group_of = {
        member.module: group
        for group in prunable.groups
        for member in group.members
        if member.axis == "out" and member.is_plain
    }
    left = {name: list(channels) for name, channels in all_kept(prunable.groups).items()}
    while prunable.macs(left) > limit:
        if pruner.current_step >= pruner.iterative_steps:
            raise InputError(f"budget: torch-pruning finds no way down to {budget.share:g}")
        for found in pruner.step(interactive=True):
            _strike(left, group_of[names[found[0].dep.target.module]], found[0].idxs)
            found.prune()
    return {name: tuple(channels) for name, channels in left.items()}


def _strike(left: dict[str, list[int]], group: ChannelGroup, places: Sequence[int]) -> None:
    gone = set(places)
    left[group.name] = [c for i, c in enumerate(left[group.name]) if i not in gone]
