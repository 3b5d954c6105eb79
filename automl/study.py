"""A study: its stages, each alone or all together, and its result. This is the Python API."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from automl import measure, stages
from automl.cluster import connect
from automl.config import StudyConfig
from automl.ledger import Row, read_rows
from automl.output import check_inputs, check_output, claim_output
from automl.progress import StudyProgress
from automl.report import write_report
from automl.stages import STAGES
from automl.tracking import tracking_uri
from automl.workspace import Workspace
from search_spaces.design import Design
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.costs import latency_ms
from trainables.data.prepare import SPLITS
from trainables.data.prompts import PromptKind
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.standalone import load_subnet
from trainables.sam.supernet import Supernet
from trainables.supernet import WEIGHTS


@dataclass(frozen=True)
class StudyResult:
    """What a study found: rows of `front.parquet` and `designs.parquet`, the parent's figures."""

    output: Path
    parent: dict[str, Any]
    designs: list[dict[str, Any]]
    front: list[Row]


class Study:
    """A search for smaller SAMs, whose whole state is its output directory.

    A study that was cut off goes on where it was when it is run again with the same configuration
    and the same directory.

    Args:
        config: everything that the study does follows from it.
        output: the output directory; made when the first stage runs.
        console: where progress is shown; standard error by default.

    Raises:
        InputError: the directory belongs to another configuration or holds other files.
    """

    def __init__(
        self, config: StudyConfig, output: str | Path, console: Console | None = None
    ) -> None:
        self.config = config
        self.workspace = Workspace(config, Path(output).resolve())
        self._console = console or Console(stderr=True)
        check_output(self.workspace)

    @property
    def output(self) -> Path:
        """The output directory."""
        return self.workspace.root

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps this study's runs."""
        return tracking_uri(self.config, self.output)

    def run(self) -> StudyResult:
        """Run all stages; those that are done are not repeated."""
        self.run_until("report")
        return self.result()

    def run_until(self, last: str) -> None:
        """Run the stages up to one of `stages.STAGES`, which is included.

        Raises:
            InputError: an input can't be used; nothing was written.
        """
        names = list(STAGES)[: list(STAGES).index(last) + 1]
        todo = [name for name in names if not stages.is_done(self.workspace, name)]
        if todo:
            check_inputs(self.workspace, todo)
            claim_output(self.workspace)
        if set(todo) - {"data"}:
            connect(self.config.resources)
        with StudyProgress(stages.stage_costs(self.workspace), self._console) as progress:
            for name in names:
                if name not in todo:
                    progress.skip(name)
                    continue
                with progress.stage(name) as share:
                    STAGES[name][0](self.workspace, share)

    def result(self) -> StudyResult:
        """What the study has found.

        Raises:
            InputError: it has no front yet.
        """
        self._needs("front", "holds no front yet; run the study to its end first")
        return StudyResult(
            self.output,
            stages.read_parent(self.workspace),
            read_rows(self.output / "designs.parquet"),
            read_rows(self.output / "front.parquet"),
        )

    def best_design(self) -> Design:
        """The design of the highest hypervolume.

        Raises:
            InputError: none was searched yet.
        """
        self._needs("designs", "holds no designs yet; run `supersam search` first")
        return stages.best_design(self.workspace)

    def designs(self) -> list[dict[str, Any]]:
        """Rows of `designs.parquet`."""
        return read_rows(self.output / "designs.parquet")

    def picture_counts(self) -> dict[str, dict[str, int]]:
        """Pictures and objects of each split."""
        counts = {}
        for split in SPLITS:
            table = pq.read_table(self.workspace.data / f"{split}.parquet", columns=["objects"])
            objects = table.column("objects").to_pylist()
            counts[split] = {"pictures": len(objects), "objects": sum(len(o) for o in objects)}
        return counts

    def layer_worth(self) -> list[dict[str, Any]]:
        """Rows of `importance.parquet`, without the neurons' scores."""
        return [
            {name: value for name, value in row.items() if not name.startswith("score_")}
            for row in self.workspace.importance()
        ]

    def profile(self) -> list[dict[str, Any]]:
        """Costs and latency of largest, middle and smallest subnet, before any training.

        The designs are those that the search starts from; importance must have been measured.
        """
        rows = []
        supernet, space_of = self.workspace.parent(), self.config.designs.space
        for point in space_of.first_points():
            design = space_of.design(point)
            space = self.workspace.space(design)
            names = ("largest", "middle", "smallest")
            for name, subnet in zip(names, space.ladder(3), strict=False):
                costs = self.workspace.costs(subnet)
                share = costs["encoder_params"] / self.workspace.parent_costs["encoder_params"]
                rows.append(
                    {
                        "design": design.key,
                        "name": name,
                        **subnet.to_dict(),
                        **costs,
                        "smaller_by": 1 - share,
                        "latency_ms": latency_ms(supernet.encoder, subnet),
                        "space_size": space.size,
                    }
                )
        return rows

    def evaluate(self, key: str | None, split: str, prompts: PromptKind) -> dict[str, Any]:
        """Measure the parent, or a standalone subnet by its key, on all of a split.

        Raises:
            InputError: there is no such subnet or split.
        """
        if split not in SPLITS:
            raise InputError(f"split: {split!r} is unknown; choose from {', '.join(SPLITS)}")
        supernet = self.workspace.parent() if key is None else self.standalone(key)
        examples = EvaluationSet(
            self.workspace.pictures(split),
            image_size=self.workspace.encoder.image_size,
            prompts=prompts,
            seed=self.config.seed,
            max_objects=self.config.evaluation.max_objects,
        )
        metrics = examples.evaluate(supernet, supernet.largest, self.config.evaluation.batch_size)
        return {
            "subnet": key or "parent",
            "split": split,
            "prompts": prompts,
            "pictures": len(examples),
            **asdict(metrics),
            "box_miou": examples.box_miou(),
        }

    def standalone(self, key: str) -> Supernet:
        """A subnet of `subnets/` as a model of its own.

        Raises:
            InputError: there is none of this key.
        """
        return Supernet(load_subnet(self.output / "subnets" / key))

    def export(self, key: str) -> Path:
        """Write an evaluated subnet of the final supernet as a model of its own.

        Raises:
            InputError: no such subnet was evaluated.
        """
        self._needs("final", "holds no final supernet yet; run `supersam train` first")
        weights = stages.final_weights(self.workspace)
        rows = read_rows(self.output / "evaluations.parquet")
        row = next((r for r in rows if (r["subnet"], r["weights"]) == (key, weights)), None)
        if row is None:
            raise InputError(
                f"--subnet: {key} was not evaluated on the final supernet; "
                f"{self.output / 'evaluations.parquet'} lists those that were"
            )
        supernet = measure.load_weights(self.workspace, self.output / "supernet" / WEIGHTS)
        return measure.write_standalone(self.workspace, supernet, Subnet.from_dict(row))

    def write_report(self) -> Path:
        """Write `report.html` anew from what is on disk.

        Raises:
            InputError: there is no front yet.
        """
        self._needs("front", "holds no front yet; run the study to its end first")
        return write_report(self.workspace)

    def _needs(self, stage: str, otherwise: str) -> None:
        if not stages.is_done(self.workspace, stage):
            raise InputError(f"{self.output} {otherwise}")
