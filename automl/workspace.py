"""A study's files, and what any process needs to work on it: the configuration and the folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from automl.config import StudyConfig
from automl.ledger import write_rows
from search_spaces.constraints import Constraint, parse_constraints
from search_spaces.design import Design
from search_spaces.subnet import Subnet, SubnetSpace
from trainables.costs import subnet_costs
from trainables.data.pictures import Pictures
from trainables.sam.encoder import reorder_neurons
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.layer_worth import LayerWorth
from trainables.sam.models import EncoderConfig, build_sam, encoder_config, load_sam
from trainables.sam.scores import SCORES, order_of
from trainables.sam.supernet import Supernet

IMPORTANCE = pa.schema(
    [
        ("layer", pa.int64()),
        ("attention", pa.string()),  # global or windowed
        ("miou_lost", pa.float64()),  # mIoU of the parent minus mIoU without the layer
        ("embedding_error", pa.float64()),  # relative, of the image embedding without the layer
        ("drop_probability", pa.float64()),  # in the design that was chosen, or that comes first
        *((f"score_{name}", pa.list_(pa.float64())) for name in SCORES),  # of each MLP neuron
    ]
)


@dataclass(frozen=True)
class Workspace:
    """The output directory of a study.

    Args:
        config: of the study.
        root: the output directory, absolute; every node must reach it.
    """

    config: StudyConfig
    root: Path

    @property
    def data(self) -> Path:
        """The prepared splits."""
        return self.root / "data"

    @property
    def work(self) -> Path:
        """What is needed only until the study is done: checkpoints, Ray's state, ledger parts."""
        return self.root / "work"

    @property
    def encoder(self) -> EncoderConfig:
        """The parent's encoder at the study's input size."""
        return encoder_config(self.config.model, self.config.image_size)

    def ledger_part(self, weights: str) -> Path:
        """The ledger's part for one trained supernet."""
        return self.work / "ledger" / f"{weights}.parquet"

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
        )

    def parent(self) -> Supernet:
        """The parent as it was loaded, on the GPU where this process has one."""
        config = self.config
        sam = load_sam(config.model, config.checkpoint_path, config.image_size)
        return Supernet(sam).to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def prioritised(self, metric: str) -> Supernet:
        """The parent with its MLP neurons reordered by a score."""
        supernet = self.parent()
        scores = [torch.tensor(row[f"score_{metric}"]) for row in self.importance()]
        reorder_neurons(supernet.sam.image_encoder, order_of(scores))
        return supernet

    def importance(self) -> list[dict[str, Any]]:
        """Rows of `importance.parquet`, one a layer."""
        rows: list[dict[str, Any]] = pq.read_table(self.root / "importance.parquet").to_pylist()
        return rows

    def write_importance(
        self, worth: Sequence[LayerWorth], scores: dict[str, list[torch.Tensor]], design: Design
    ) -> None:
        """Write `importance.parquet`; the drop probabilities are the design's."""
        rows = [
            {
                "layer": item.layer,
                "attention": ("global" if item.layer in self.encoder.global_layers else "windowed"),
                "miou_lost": item.miou_lost,
                "embedding_error": item.embedding_error,
                **{f"score_{name}": scores[name][item.layer].tolist() for name in scores},
            }
            for item in worth
        ]
        self._write_with_probabilities(rows, design)

    def choose_design(self, design: Design) -> None:
        """Put a design's drop probabilities into `importance.parquet`."""
        self._write_with_probabilities(self.importance(), design)

    def _write_with_probabilities(self, rows: list[dict[str, Any]], design: Design) -> None:
        space = self.draw_up(design, [row["miou_lost"] for row in rows])
        for row, probability in zip(rows, space.drop_probabilities, strict=True):
            row["drop_probability"] = probability
        write_rows(rows, self.root / "importance.parquet", IMPORTANCE)

    def space(self, design: Design) -> SubnetSpace:
        """The subnets of a design."""
        return self.draw_up(design, self.worth())

    def worth(self) -> list[float]:
        """mIoU lost when each layer alone is removed from the parent."""
        return [row["miou_lost"] for row in self.importance()]

    def draw_up(self, design: Design, worth: Sequence[float]) -> SubnetSpace:
        """The subnets of a design, given what each layer is worth."""
        full = int(self.encoder.embed_dim * self.encoder.mlp_ratio)
        return design.draw_up(worth, [full] * self.encoder.depth)

    @cached_property
    def costs(self) -> Callable[[Subnet], dict[str, int]]:
        """Costs of a subnet by name, counted on a model without weights."""
        with torch.device("meta"):
            sam = build_sam(self.encoder)
        return lambda subnet: subnet_costs(sam, subnet).to_dict()

    @cached_property
    def parent_costs(self) -> dict[str, int]:
        """Costs of the parent by name."""
        full = int(self.encoder.embed_dim * self.encoder.mlp_ratio)
        depth = self.encoder.depth
        return self.costs(Subnet(tuple(range(depth)), (full,) * depth))

    @cached_property
    def constraints(self) -> list[Constraint]:
        """The ceilings that subnets must keep.

        Raises:
            InputError: one of them is no bound.
        """
        return parse_constraints(self.config.constraints, self.parent_costs)

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "root": self.root}
