"""The one configuration of a study of channel pruning."""

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field

from automl.base_config import BaseConfig, Section
from automl.config_reading import FunctionName, WholePath, validated
from automl.searchers.registry import SEARCHERS, find_searcher
from search_spaces.errors import InputError
from search_spaces.pruner_design import Allocation, PrunerDesign, PrunerSpace
from search_spaces.pruning_budget import BudgetSpace
from trainables.channel_pruning.fine_tuning import FineTuneSettings
from trainables.channel_pruning.hypernetwork import HyperSettings
from trainables.channel_pruning.mask_training import MaskSettings
from trainables.channel_pruning.networks import NETWORKS, find_network
from trainables.channel_pruning.prompt import PromptSettings, VisualPrompt

FAMILY = "channel_pruning"


class SplitConfig(Section):
    """Shares of the pictures, where the data set's layout does not name the split.

    Args:
        val: of the pictures to train with, or of all.
        test: of all, where there is no test split either.
    """

    val: float = Field(0.2, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)


class EvaluationConfig(Section):
    """What accuracy is measured on.

    Args:
        val_pictures: those that every search sees; null: all of the split.
        test_pictures: those of the final measurement; null: all of the split.
        batch_size: pictures.
    """

    val_pictures: int | None = Field(None, ge=1)
    test_pictures: int | None = Field(None, ge=1)
    batch_size: int = Field(250, ge=1)


class DesignsConfig(Section):
    """The outer search: how many designs of a pruner, and what each of them is given.

    Args:
        space: the designs on offer.
        trials: how many are tried.
        concurrent: how many at once, at most.
        steps: of training its masks, counted from its start.
        evaluations: of budgets.
    """

    space: PrunerSpace = PrunerSpace()
    trials: int = Field(4, ge=1)
    concurrent: int = Field(1, ge=1)
    steps: int = Field(200, ge=1)
    evaluations: int = Field(6, ge=1)


class SearchConfig(Section):
    """How the budgets of a trained pruner are searched.

    Args:
        searcher: hyperopt, nsga2, tpe or random; or FILE.py:NAME or package.module:NAME, a function
            of your own as `automl/searchers/protocol.py` describes it.
        shares: of the MACs on offer.
        allocations: how each may be cut: one threshold for all groups of channels (`global`), or
            the same share of each (`uniform`).
        tuning_steps: of fine-tuning, before accuracy is measured; 0: only the norms' statistics are
            measured anew.
    """

    searcher: FunctionName = "hyperopt"
    shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2), min_length=1
    )
    allocations: tuple[Allocation, ...] = Field(("global", "uniform"), min_length=1)
    tuning_steps: int = Field(20, ge=0)


class FinalConfig(Section):
    """What the best design is given.

    Args:
        steps: of training its masks; the training goes on from the designs'.
        evaluations: of budgets.
        tuning_steps: of fine-tuning each network of the front.
    """

    steps: int = Field(1000, ge=1)
    evaluations: int = Field(14, ge=1)
    tuning_steps: int = Field(1000, ge=1)


class PruningConfig(BaseConfig):
    """Everything that a study of channel pruning does follows from this and its seed.

    Args:
        network: resnet20, resnet56, resnet18, resnet34, resnet50 or a VGG; or FILE.py:NAME or
            package.module:NAME, a function of your own from the number of classes to a module.
        weights: of the trained network.
        data: a folder, or a ZIP file: a folder a class, or the layout of CIFAR-10/100,
            Tiny-ImageNet, DTD, Stanford Cars or Food-101.
        image_size: side of the pictures, pixels.
        split: of what the data set does not split itself.
        evaluation: what accuracy is measured on.
        masks: how prompt and hypernetwork are trained.
        tuning: how slimmed networks are fine-tuned.
    """

    family: Literal["channel_pruning"] = "channel_pruning"
    network: FunctionName = "resnet20"
    weights: WholePath | None = None
    data: WholePath | None = None
    image_size: int = Field(32, ge=8, le=4096)
    split: SplitConfig = SplitConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    masks: MaskSettings = MaskSettings()
    tuning: FineTuneSettings = FineTuneSettings()
    designs: DesignsConfig = DesignsConfig()
    search: SearchConfig = SearchConfig()
    final: FinalConfig = FinalConfig()

    @property
    def budgets(self) -> BudgetSpace:
        """What the inner search covers."""
        return BudgetSpace(self.search.shares, self.search.allocations)


def hyper_settings(design: PrunerDesign) -> HyperSettings:
    """The hypernetwork of a design; half as wide as its state is what it is told."""
    prompt = {"form": design.prompt, **({"size": design.prompt_size} if design.prompt_size else {})}
    return HyperSettings.model_validate(
        {
            "prompt": PromptSettings.model_validate(prompt),
            "recurrence": design.recurrence,
            "hidden": design.hidden,
            "embedding": max(1, design.hidden // 2),
            "statistics": design.statistics,
        }
    )


def check_config(values: dict[str, Any], where: str, own_code: bool = True) -> PruningConfig:
    """Check a configuration's values.

    Args:
        values: nested, as YAML gives them.
        where: named in errors.
        own_code: whether Python files and modules that it names are imported, to see that they
            define what they should.

    Raises:
        InputError: a key is unknown or missing, or a value is out of range.
    """
    config = validated(PruningConfig, values, where)
    if own_code:
        find_network(config.network)
        if config.search.searcher not in SEARCHERS:
            find_searcher(config.search.searcher)
    elif config.network not in NETWORKS and ":" not in config.network:
        raise InputError(f"{where}: network: {config.network} is none of {', '.join(NETWORKS)}")
    _check_prompts(config, where)
    _check_amounts(config, where)
    return config


def _check_prompts(config: PruningConfig, where: str) -> None:
    space = config.designs.space
    for form, size in itertools.product(space.prompt, space.prompt_size):
        try:
            VisualPrompt(PromptSettings(form=form, size=size), config.image_size)
        except InputError as error:
            reason = str(error).removeprefix("prompt.size: ")
            raise InputError(f"{where}: designs.space.prompt_size: {reason}") from error


def _check_amounts(config: PruningConfig, where: str) -> None:
    designs, search, final = config.designs, config.search, config.final
    for key, offered in (("shares", search.shares), ("allocations", search.allocations)):
        if len(set(offered)) < len(offered):
            raise InputError(f"{where}: search.{key}: one is there twice; name each once")
    if final.steps < designs.steps:
        raise InputError(
            f"{where}: final.steps is {final.steps}, less than designs.steps {designs.steps}; the "
            "final training goes on from the designs'"
        )
    if final.tuning_steps <= search.tuning_steps:
        raise InputError(
            f"{where}: final.tuning_steps is {final.tuning_steps}, and must be more than "
            f"search.tuning_steps {search.tuning_steps}"
        )
    if config.resources.train_workers != 1:
        raise InputError(
            f"{where}: resources.train_workers is {config.resources.train_workers}; a pruner is "
            "trained by one process, set it to 1"
        )
