"""The one configuration of a study of SAM: typed, checked once, written beside its results."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from automl.base_config import BaseConfig, Section
from automl.config_reading import (
    FunctionName,
    WholePath,
    read_values,
    validated,
    whole_function,
    whole_path,
)
from automl.sam.design_checks import check_designs, check_scores
from automl.searchers.registry import SEARCHERS, find_searcher
from search_spaces.addresses import shown
from search_spaces.design import DesignSpace
from search_spaces.errors import InputError
from trainables.data.prompts import PromptKind
from trainables.sam.layer_worth import WorthKind
from trainables.sam.objective import MIOU, find_objective
from trainables.sam.parents import PARENTS, parent_encoder
from trainables.supernet import TrainingSettings

ASSETS = Path(__file__).parent / "assets"
PACKAGED_DATA = {"nuclei": ASSETS / "nuclei"}
"""Data sets that ship with the project, by the name that `data` takes."""
PACKAGED_CHECKPOINTS = {"vit_t": ASSETS / "vit_t" / "vit_t.safetensors"}
"""Parents that ship with the project; the others need a `checkpoint`."""


class DataConfig(Section):
    """How a data set in a layout of its own is prepared; unused where it is prepared already.

    Args:
        format: the layout's name; null: recognised by what is there.
        strict: whatever can't be used is an error, and not just counted.
        categories: only objects of these; null: all.
        tile: side of the tiles that large sections are cut into, pixels; null: they stay whole.
        tile_overlap: pixels that neighbouring tiles share.
        val: the split's share of the pictures.
        test: the split's share of the pictures.
        min_area: objects of fewer pixels are left out.
        max_side: pictures with a longer side, in pixels, are left out.
        limits: how many pictures a split holds at most, by its name.
    """

    format: str | None = None
    strict: bool = False
    categories: list[str] | None = None
    tile: int | None = Field(None, ge=64)
    tile_overlap: int = Field(0, ge=0)
    val: float = Field(0.15, gt=0, lt=1)
    test: float = Field(0.2, gt=0, lt=1)
    min_area: int = Field(16, ge=1)
    max_side: int | None = Field(None, ge=1)
    limits: dict[Literal["train", "val", "test"], Annotated[int, Field(ge=1)]] = Field({})


class EvaluationConfig(Section):
    """What a subnet is measured on.

    Args:
        val_pictures: those that every search sees; null: all of the split.
        test_pictures: those of the final measurement; null: all of the split.
        max_objects: objects prompted in each picture, at most.
        min_area: objects of fewer pixels are not prompted.
        batch_size: pictures that are encoded together; null: 8, fewer above 256 px.
    """

    val_pictures: int | None = Field(64, ge=1)
    test_pictures: int | None = Field(None, ge=1)
    max_objects: int = Field(64, ge=1)
    min_area: int = Field(1, ge=1)
    batch_size: int | None = Field(None, ge=1)


class PrioritiseConfig(Section):
    """Calibration, on pictures of the train split.

    Args:
        score_pictures: those that neurons are scored on, drawn at random.
        worth_pictures: the first so many are those that layers are removed on.
        worth: what counts as a layer's worth: the mIoU lost without it, or the error of the image
            embedding alone, which is measured in a fraction of the time.
    """

    score_pictures: int = Field(16, ge=1)
    worth_pictures: int = Field(32, ge=1)
    worth: WorthKind = "miou"


class DesignsConfig(Section):
    """The outer search: how many designs, and what each of them is given to begin with.

    Args:
        space: the designs on offer.
        trials: how many are tried.
        reduction: of so many designs one goes on, with more steps and more evaluations, until one
            is left, which gets what `final` says.
        concurrent: how many are tried at once, at most.
        steps: of training, counted from its start.
        evaluations: of subnets.
    """

    space: DesignSpace = DesignSpace()
    trials: int = Field(8, ge=1)
    reduction: int = Field(3, ge=2)
    concurrent: int = Field(1, ge=1)
    steps: int = Field(200, ge=1)
    evaluations: int = Field(40, ge=1)

    @field_validator("space")
    @classmethod
    def _whole_files(cls, space: DesignSpace) -> DesignSpace:
        return space.model_copy(
            update={"metric": [whole_function(metric) for metric in space.metric]}
        )


class FinalConfig(Section):
    """What the best design is given on the last rung; its training goes on from the one before."""

    steps: int = Field(1000, ge=1)
    evaluations: int = Field(200, ge=1)


class SearchConfig(Section):
    """How the subnets of a supernet are searched.

    Args:
        searcher: hyperopt, nsga2, tpe or random; or FILE.py:NAME or package.module:NAME, a function
            of your own as `automl/searchers/protocol.py` describes it.
        objective: what is maximised beside the MACs that are saved: miou; or FILE.py:NAME or
            package.module:NAME, a function of your own as `trainables/sam/objective.py` describes
            it.
        quality_floor: of that objective, on val: what is less is worth nothing. Hypervolume, by
            which subnets and designs are chosen, counts from here; 0 rewards small subnets however
            bad they are.
        stop_early: whether an evaluation ends where the subnet has clearly lost against one that
            costs no more, as `trainables/early_stopping.py` says; never with an objective of your
            own.
    """

    searcher: FunctionName = "hyperopt"
    objective: FunctionName = MIOU
    quality_floor: float = Field(0.0, allow_inf_nan=False)
    stop_early: bool = True


class StudyConfig(BaseConfig):
    """Everything that a study does follows from this and its seed.

    Args:
        model: the parent, by name.
        checkpoint: the parent's weights; may be left out for parents that ship.
        data: the name of a data set that ships, a folder of prepared Parquet splits, or one in a
            layout that `prepare` reads; a local path or a URI such as s3://bucket/folder.
        image_size: side of the encoder's input, pixels; null: the checkpoint's own.
        prompts: box, point (a random one of the mask), centre (the one farthest from its edge), or
            mixed (box or point).
        latency_table: the file that `supersam latency` makes on the machine that will serve.
        constraints: bounds on subnets by cost name: a ceiling such as 3000000, "50%" or "<=50%", a
            floor such as ">=30%", or both as "30%..50%"; a share is of the parent's own. Costs are
            params, encoder_params and encoder_macs; with a latency table also latency_ms and
            peak_memory.
    """

    family: Literal["sam"] = "sam"
    model: str = "vit_t"
    checkpoint: WholePath | None = None
    data: str = "nuclei"
    image_size: int | None = Field(None, ge=64)
    prompts: PromptKind = "box"
    latency_table: WholePath | None = None
    constraints: dict[str, str | float] = Field({})
    prepare: DataConfig = DataConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    prioritise: PrioritiseConfig = PrioritiseConfig()
    training: TrainingSettings = TrainingSettings()
    designs: DesignsConfig = DesignsConfig()
    search: SearchConfig = SearchConfig()
    final: FinalConfig = FinalConfig()

    @field_validator("data")
    @classmethod
    def _whole_data(cls, place: str) -> str:
        if place in PACKAGED_DATA or "://" in place:
            return place
        return str(whole_path(Path(place)))

    def result_values(self) -> dict[str, Any]:
        """As any configuration's; how strictly data is read changes nothing either."""
        values = super().result_values()
        del values["prepare"]["strict"]
        return values

    def without_secrets(self) -> Self:
        """As any configuration's."""
        return super().without_secrets().model_copy(update={"data": shown(self.data)})

    @property
    def checkpoint_path(self) -> Path:
        """The parent's weights.

        Raises:
            InputError: none is given, and none ships for this model.
        """
        path = self.checkpoint or PACKAGED_CHECKPOINTS.get(self.model)
        if path is None:
            raise InputError(f"checkpoint: {self.model} needs one; give the path of its weights")
        return path


def load_config(path: str | Path | None, overrides: list[str]) -> StudyConfig:
    """Read a YAML file, apply `KEY=VALUE` overrides (`training.batch_size=8`), check everything.

    Raises:
        InputError: the file is missing or no YAML, a key is unknown, or a value is out of range.
    """
    return check_config(*read_values(path, overrides))


def check_config(values: dict[str, Any], where: str, own_code: bool = True) -> StudyConfig:
    """Check a configuration's values.

    Args:
        values: nested, as YAML gives them.
        where: named in errors.
        own_code: whether Python files and modules that it names are imported, to see that they
            define what they should.

    Raises:
        InputError: as `load_config`.
    """
    family = values.get("family", "sam")
    if family != "sam":
        raise InputError(
            f"{where}: it is of the family {family!r}, and this is for sam; `supersam run` and "
            "`supersam report` are for all"
        )
    config = validated(StudyConfig, values, where)
    if own_code:
        if config.search.searcher not in SEARCHERS:
            find_searcher(config.search.searcher)
        find_objective(config.search.objective)
        check_scores(config.designs.space, where)
    if own_code or config.model in PARENTS:
        encoder = parent_encoder(config.model, config.image_size)
        check_designs(config.designs.space, config.model, encoder, where)
    if config.prepare.tile is not None and config.prepare.tile_overlap >= config.prepare.tile:
        raise InputError(
            f"{where}: prepare.tile_overlap is {config.prepare.tile_overlap}, and must be less "
            f"than prepare.tile {config.prepare.tile}"
        )
    if config.final.steps < config.designs.steps:
        raise InputError(
            f"{where}: final.steps is {config.final.steps}, less than designs.steps "
            f"{config.designs.steps}; the final training goes on from the designs'"
        )
    workers, parts = config.resources.train_workers, config.training.accumulation
    if config.training.batch_size % (workers * parts):
        raise InputError(
            f"{where}: training.batch_size {config.training.batch_size} is not a multiple of "
            f"resources.train_workers {workers} times training.accumulation {parts}"
        )
    return config
