"""The configuration of a search over plans of convolutions: typed, checked once."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from automl.base_config import BaseConfig, Section
from automl.config_reading import FunctionName, validated
from automl.searchers.registry import SEARCHERS, find_searcher
from search_spaces.conv_plan import Layout, Precision, Slices
from search_spaces.conv_shape import ConvShape
from search_spaces.conv_tiles import PlanSpace
from search_spaces.errors import InputError
from trainables.convolution.layers import LAYERS, paper_layer

Method = Literal["slices", "triton"]
DType = Literal["float32", "float16", "bfloat16"]
SIZES: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number."""
Count = Annotated[int, Field(ge=1)]
MOST_THREADS = 4096


def _twice(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


Counts = Annotated[tuple[Count, Count], BeforeValidator(_twice)]
Rims = Annotated[
    tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], BeforeValidator(_twice)
]
E = TypeVar("E")
Offered = Annotated[tuple[E, ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class ShapeConfig(Section):
    """A convolution of one's own; what has a height and a width is a pair, or a number for both.

    Args:
        channels: of a picture.
        size: of a picture, pixels.
        filters: output channels.
        kernel: of a filter.
        stride: between windows.
        padding: rows and columns of zeros on each side.
        dilation: between a window's rows and columns.
        groups: channels and filters are split into.
    """

    channels: Count
    size: Counts
    filters: Count
    kernel: Counts
    stride: Counts = (1, 1)
    padding: Rims = (0, 0)
    dilation: Counts = (1, 1)
    groups: Count = 1


class ChoicesConfig(Section):
    """What plans may choose from; see `search_spaces/conv_plan.py`.

    Args:
        layout: of the window tensor.
        slices: what is multiplied at a time, by slices.
        block_kib: KiB of windows and sums at a time, by slices; 0: all at once.
        threads: of the CPU, by slices; PyTorch's own has the most of them.
        tile_filters: the tile's rows, of the Triton kernel; the rest, too.
        tile_windows: its columns.
        tile_depth: products added up at a time.
        warps: of 32 threads.
        stages: of its pipeline.
        precision: of float32 products; with tf32 among them, PyTorch's own may use it as well.
    """

    layout: Offered[Layout] = ("nchw", "nhwc")
    slices: Offered[Slices] = ("rows", "columns")
    block_kib: Offered[Annotated[int, Field(ge=0)]] = (2048, 512, 1024, 4096, 8192, 0)
    threads: Offered[Annotated[int, Field(ge=1, le=MOST_THREADS)]] = (2, 1)
    tile_filters: Offered[int] = (64, 16, 32, 128)
    tile_windows: Offered[int] = (64, 16, 32, 128, 256)
    tile_depth: Offered[int] = (32, 16, 64)
    warps: Offered[int] = (4, 2, 8)
    stages: Offered[int] = (3, 1, 2, 4)
    precision: Offered[Precision] = ("ieee",)


class PlanSearchConfig(Section):
    """How the plans of one convolution are searched.

    Args:
        searcher: hyperopt, nsga2, tpe or random; or FILE.py:NAME or package.module:NAME, a function
            of your own as `automl/searchers/protocol.py` describes it.
        evaluations: plans that are measured for each convolution, the default one included; those
            of PyTorch's own come on top.
    """

    searcher: FunctionName = "hyperopt"
    evaluations: int = Field(16, ge=1)


class MeasureConfig(Section):
    """How a plan is measured.

    Args:
        repeats: of the convolution; the median counts.
        front_repeats: likewise, when the front is measured once more, its plans in turn.
        warmup: so many before them do not count.
        cpu_time: count what the process computed, not what the clock says: for a machine that is
            busy with other things; on a CPU, with one thread.
        tolerance: by how much a result may differ from PyTorch's, over its largest number; null: by
            the type, 1e-4 of float32.
    """

    repeats: int = Field(7, ge=1)
    front_repeats: int = Field(15, ge=1)
    warmup: int = Field(1, ge=1)
    cpu_time: bool = False
    tolerance: float | None = Field(None, gt=0)


class ConvolutionConfig(BaseConfig):
    """Everything that a search over plans of convolutions does follows from this and its seed.

    Args:
        layers: by name, of the twelve that im2win's authors measure.
        shapes: more of them, by a name of your own.
        batch: pictures.
        dtype: of the tensors.
        method: slices or triton; null: triton on a GPU that has it, else slices.
        choices: what plans choose from.
        search: over the plans of each convolution.
        measure: of one plan.
    """

    family: Literal["convolution"] = "convolution"
    layers: tuple[str, ...] = LAYERS
    shapes: dict[Name, ShapeConfig] = Field({})
    batch: Count = 4
    dtype: DType = "float32"
    method: Method | None = None
    choices: ChoicesConfig = ChoicesConfig()
    search: PlanSearchConfig = PlanSearchConfig()
    measure: MeasureConfig = MeasureConfig()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all convolutions that are searched, in this order."""
        return (*self.layers, *self.shapes)

    def shape(self, name: str) -> ConvShape:
        """One of them.

        Raises:
            InputError: its sizes do not fit together.
        """
        if name in self.shapes:
            return ConvShape(self.batch, **dict(self.shapes[name]))
        return paper_layer(name, self.batch)

    @property
    def most_threads(self) -> int:
        """Of the CPU: what PyTorch's own convolution and the default plan have."""
        return max(self.choices.threads)

    def space(
        self, shape: ConvShape, method: Method, shared_memory: int | None = None
    ) -> PlanSpace:
        """The plans on offer for a convolution.

        Args:
            shape: of the convolution.
            method: one of those that can be tuned.
            shared_memory: bytes that a program may have on the GPU; None: what most have.

        Raises:
            InputError: none suits the shape.
        """
        given: dict[str, Any] = {**dict(self.choices), "element_size": SIZES[self.dtype]}
        if shared_memory:
            given["shared_memory"] = shared_memory
        return PlanSpace(shape, method, **given)


def check_config(values: dict[str, Any], where: str, own_code: bool = True) -> ConvolutionConfig:
    """Check a configuration's values.

    Args:
        values: nested, as YAML gives them.
        where: named in errors.
        own_code: whether Python files and modules that it names are imported.

    Raises:
        InputError: a key is unknown, a value is out of range, or a convolution has no plans.
    """
    config = validated(ConvolutionConfig, values, where)
    for name in config.layers:
        if name not in LAYERS:
            raise InputError(
                f"{where}: layers: {name!r} is unknown; choose from {', '.join(LAYERS)}, or give "
                "its sizes under shapes"
            )
    twice = [name for name in config.names if config.names.count(name) > 1]
    if twice or not config.names:
        raise InputError(
            f"{where}: layers, shapes: "
            + (f"{twice[0]!r} is there twice" if twice else "there are none; name one")
        )
    most = config.most_threads
    if most > config.resources.evaluator_cpus:
        raise InputError(
            f"{where}: choices.threads: {most}, and resources.evaluator_cpus reserves "
            f"{config.resources.evaluator_cpus:g}; give either another value"
        )
    if config.measure.cpu_time and most > 1:
        raise InputError(f"{where}: measure.cpu_time: give choices.threads=[1]; it is {most} here")
    for name in config.names:
        _check_plans(config, name, where)
    if own_code and config.search.searcher not in SEARCHERS:
        find_searcher(config.search.searcher)
    return config


def _check_plans(config: ConvolutionConfig, name: str, where: str) -> None:
    """Refuse a convolution that has no plan; where the device decides on the method, by either."""
    methods: tuple[Method, ...] = (config.method,) if config.method else ("slices", "triton")
    reasons = []
    try:
        shape = config.shape(name)
        for method in methods:
            try:
                next(config.space(shape, method).points())
                return
            except InputError as error:
                reasons.append(error)
        raise reasons[0]
    except InputError as error:
        raise InputError(f"{where}: {name}: {error}") from error
