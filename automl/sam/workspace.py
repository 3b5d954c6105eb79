"""A study's files, and what any process needs to work on it: the configuration and the folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from automl.base_workspace import BaseWorkspace
from automl.ledger import read_rows, write_rows
from automl.sam.config import StudyConfig
from search_spaces.constraints import Constraint, parse_constraints
from search_spaces.design import Design
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from search_spaces.subnet_space import SubnetSpace
from trainables.costs import CostTable, cost_table
from trainables.data.batches import Batch
from trainables.data.calibration import calibration_batches
from trainables.data.pictures import Pictures
from trainables.latency_table import LatencyTable
from trainables.sam.encoder import ElasticEncoder, elastic
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.family import EncoderConfig
from trainables.sam.layer_worth import LayerWorth, WorthKind
from trainables.sam.models import build_sam, load_sam
from trainables.sam.objective import Objective, find_objective
from trainables.sam.parents import parent_encoder
from trainables.sam.scores import order_of, score_label
from trainables.sam.segment_anything_import import Sam
from trainables.sam.supernet import Supernet
from trainables.sam.units import Units, reorder

IMPORTANCE = pa.schema(
    [
        ("layer", pa.int64()),
        ("attention", pa.string()),  # global or windowed
        ("miou_lost", pa.float64()),  # mIoU of the parent minus mIoU without the layer
        ("embedding_error", pa.float64()),  # relative, of the image embedding without the layer
        ("drop_probability", pa.float64()),  # in the design that was chosen, or that comes first
    ]
)
"""Columns of `importance.parquet`: one row a layer. Behind them stands `score_NAME` for each score
that a design may order neurons by: a list with an entry for each neuron of the layer's MLP. Where
designs offer fewer heads, `score_NAME_heads` has an entry for each head of its attention."""
WORTH_COLUMNS: dict[WorthKind, str] = {"miou": "miou_lost", "embedding": "embedding_error"}


@dataclass(frozen=True)
class Workspace(BaseWorkspace):
    """The output directory of a study of SAM; args as of any."""

    config: StudyConfig

    def __getstate__(self) -> dict[str, Any]:
        # Counting takes a second or two, most of it to load a part of torch: it is done once.
        return {**super().__getstate__(), "cost_table": self.cost_table}

    @property
    def data(self) -> Path:
        """The prepared splits."""
        return self.root / "data"

    @property
    def encoder(self) -> EncoderConfig:
        """The parent's encoder at the study's input size."""
        return parent_encoder(self.config.model, self.config.image_size)

    def subnet_folder(self, key: str) -> Path:
        """Where a standalone subnet is, or will be.

        Raises:
            InputError: what is given is no key, but leads elsewhere.
        """
        if Path(key).name != key or key in ("", ".."):
            raise InputError(
                f"--subnet: {key!r} is no key of a subnet; {self.root}/subnets has them"
            )
        return self.root / "subnets" / key

    def pictures(self, split: str) -> Pictures:
        """A prepared split."""
        return Pictures(self.data / f"{split}.parquet")

    def picture_limit(self, split: str) -> int | None:
        """How many pictures of a split are evaluated at most."""
        evaluation = self.config.evaluation
        return {"val": evaluation.val_pictures, "test": evaluation.test_pictures}.get(split)

    def examples(self, split: str, limit: int | None = None) -> EvaluationSet:
        """A split with its prompts, bounded as the configuration says unless `limit` is given."""
        return EvaluationSet(
            self.pictures(split),
            image_size=self.encoder.image_size,
            prompts=self.config.prompts,
            seed=self.config.seed,
            limit=limit or self.picture_limit(split),
            max_objects=self.config.evaluation.max_objects,
            min_area=self.config.evaluation.min_area,
        )

    def calibration(self) -> Iterator[Batch]:
        """What neurons are scored on."""
        return calibration_batches(
            self.pictures("train"),
            self.config.prioritise.score_pictures,
            seed=self.config.seed,
            image_size=self.encoder.image_size,
            max_objects=self.config.training.max_objects,
            prompts=self.config.prompts,
        )

    @property
    def objective(self) -> Objective | None:
        """What is maximised in place of mIoU."""
        return find_objective(self.config.search.objective)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The scores that a design may order neurons and heads by."""
        return tuple(dict.fromkeys(self.config.designs.space.metric))

    def parent(self) -> Supernet:
        """The parent as it was loaded, on the GPU where this process has one."""
        config = self.config
        sam = load_sam(config.model, config.checkpoint_path, config.image_size)
        supernet = Supernet(sam, self.cost_table)
        return supernet.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def scored(self, encoder: ElasticEncoder, metric: str) -> dict[str, list[Units]]:
        """What a score orders: the units of each layer, by their column of `importance.parquet`."""
        units = {f"score_{score_label(metric)}": encoder.neurons}
        if self.config.designs.space.has_elastic_heads:
            units[f"score_{score_label(metric)}_heads"] = encoder.attention_heads
        return units

    def prioritised(self, metric: str) -> Supernet:
        """The parent with its MLPs' neurons, and its heads where they are scored, reordered."""
        supernet, rows = self.parent(), self.importance()
        for column, layers in self.scored(supernet.encoder, metric).items():
            reorder(layers, order_of([torch.tensor(row[column]) for row in rows]))
        return supernet

    def importance(self) -> list[dict[str, Any]]:
        """Rows of `importance.parquet`, one a layer."""
        return read_rows(self.root / "importance.parquet")

    def write_importance(
        self, worth: Sequence[LayerWorth], scores: dict[str, list[torch.Tensor]], design: Design
    ) -> None:
        """Write `importance.parquet`; the drop probabilities are the design's.

        Args:
            worth: of each layer.
            scores: by column, for each layer.
            design: which one's.
        """
        encoder = elastic(self._shapes.image_encoder)
        attention = [encoder.attention(block) for block in encoder.blocks]
        rows = [
            {
                "layer": item.layer,
                "attention": attention[item.layer],
                "miou_lost": item.miou_lost,
                "embedding_error": item.embedding_error,
                **{column: scores[column][item.layer].tolist() for column in scores},
            }
            for item in worth
        ]
        self._write_with_probabilities(rows, design)

    def choose_design(self, design: Design) -> None:
        """Put a design's drop probabilities into `importance.parquet`."""
        self._write_with_probabilities(self.importance(), design)

    def _write_with_probabilities(self, rows: list[dict[str, Any]], design: Design) -> None:
        space = self.draw_up(design, [row[self._worth_column] for row in rows])
        for row, probability in zip(rows, space.drop_probabilities, strict=True):
            row["drop_probability"] = probability
        columns = [name for name in rows[0] if name.startswith("score_")]
        scores = [pa.field(name, pa.list_(pa.float64())) for name in columns]
        write_rows(rows, self.root / "importance.parquet", pa.schema([*IMPORTANCE, *scores]))

    def space(self, design: Design) -> SubnetSpace:
        """The subnets of a design."""
        return self.draw_up(design, self.worth())

    def worth(self) -> list[float]:
        """What removing each layer alone costs: mIoU, or the embedding's error."""
        return [row[self._worth_column] for row in self.importance()]

    @property
    def _worth_column(self) -> str:
        return WORTH_COLUMNS[self.config.prioritise.worth]

    def draw_up(self, design: Design, worth: Sequence[float]) -> SubnetSpace:
        """The subnets of a design, given what each layer is worth."""
        return design.draw_up(worth, self.encoder.mlp_widths, self.encoder.full_heads)

    @cached_property
    def _shapes(self) -> Sam:
        """The parent without weights."""
        with torch.device("meta"):
            return build_sam(self.encoder)

    @cached_property
    def cost_table(self) -> CostTable:
        """What every subnet costs, counted on a model without weights."""
        return cost_table(self._shapes)

    @cached_property
    def latency_table(self) -> LatencyTable | None:
        """What was measured on the machine that will serve, where the configuration names it.

        Raises:
            InputError: there is no such file, or it is of another model or input size.
        """
        path = self.config.latency_table
        if path is None:
            return None
        return LatencyTable.load(path, self.config.model, self.encoder.image_size)

    def costs(self, subnet: Subnet) -> dict[str, float]:
        """Costs of a subnet by name: those that can be constrained.

        With a latency table also `latency_ms`, predicted milliseconds of the encoder on one
        picture, and `peak_memory`, bytes that this takes beside the weights.

        Raises:
            InputError: the latency table lacks its sizes.
        """
        counted: dict[str, float] = {**self.cost_table.costs(subnet).to_dict()}
        if self.latency_table is not None:
            try:
                counted["latency_ms"] = self.latency_table.predict(subnet)
                counted["peak_memory"] = self.latency_table.predict_peak_bytes(subnet)
            except ValueError as error:
                raise InputError(
                    f"latency_table: {self.config.latency_table} is of other designs: {error}; "
                    "measure it with this configuration"
                ) from error
        return counted

    @cached_property
    def parent_costs(self) -> dict[str, float]:
        """Costs of the parent by name."""
        return self.costs(elastic(self._shapes.image_encoder).largest)

    @cached_property
    def constraints(self) -> list[Constraint]:
        """The bounds on costs that subnets must keep.

        Raises:
            InputError: one of them is no bound, or its floor is above its ceiling.
        """
        for cost in ("latency_ms", "peak_memory"):
            if cost in self.config.constraints and self.config.latency_table is None:
                raise InputError(
                    f"constraints.{cost}: needs latency_table, the file that `supersam latency` "
                    "makes on the machine that will serve"
                )
        return parse_constraints(self.config.constraints, self.parent_costs)
