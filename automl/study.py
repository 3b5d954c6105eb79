"""A study: its stages, each alone or all together, and its result. This is the Python API."""

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console

from automl import measure
from automl.cluster import connect, run_task
from automl.config import PACKAGED_DATA, StudyConfig, check_config, first_difference
from automl.designs import DESIGNS, refine_design, search_designs
from automl.files import copy_whole, write_json, write_text
from automl.ledger import SCHEMA, Row, read_rows, write_rows
from automl.progress import StageProgress, StudyProgress
from automl.report import front_figure, write_report
from automl.search import front_hypervolume, front_rows
from automl.tracking import Tracking, tracking_uri
from automl.workspace import Workspace
from search_spaces.design import Design
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.costs import latency_ms
from trainables.data.pictures import Pictures
from trainables.data.prepare import SPLITS, SplitRule, prepare
from trainables.data.prompts import PromptKind
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.models import load_sam
from trainables.sam.standalone import extract, load_subnet, save_subnet
from trainables.sam.supernet import Supernet
from trainables.supernet import STATE, WEIGHTS

STAGES = ("data", "prioritise", "designs", "final", "front", "report")
FRONT = pa.schema(
    [
        *(field for field in SCHEMA if field.name not in ("split", "pictures", "seconds")),
        pa.field("onnx", pa.string()),
    ]
)
"""Columns of `front.parquet`: the ledger's, with val and test in one row."""


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
        InputError: the directory belongs to another configuration, or an input can't be used.
    """

    def __init__(
        self, config: StudyConfig, output: str | Path, console: Console | None = None
    ) -> None:
        self.config = config
        self.workspace = Workspace(config, Path(output).resolve())
        self._console = console or Console(stderr=True)
        self._check_output()

    @property
    def output(self) -> Path:
        """The output directory."""
        return self.workspace.root

    @property
    def done(self) -> bool:
        """Whether all stages have run."""
        return (self.output / "report.html").exists()

    def run(self) -> StudyResult:
        """Run all stages; those that are done are not repeated."""
        self.run_until(STAGES[-1])
        shutil.rmtree(self.workspace.work, ignore_errors=True)  # only unfinished studies need it
        return self.result()

    def run_until(self, last: str) -> None:
        """Run the stages up to one of `STAGES`, which is included."""
        stages = STAGES[: STAGES.index(last) + 1]
        if not all(self._is_done(stage) for stage in stages):
            self._check_inputs(stages)
            self._claim_output()
        with StudyProgress(self.stage_weights(), self._console) as progress:
            for stage in stages:
                self._run_stage(stage, progress)

    def result(self) -> StudyResult:
        """What the study has found.

        Raises:
            InputError: it has no front yet.
        """
        if not self._is_done("front"):
            raise InputError(f"{self.output} holds no front yet; run the study to its end first")
        return StudyResult(
            self.output,
            self._parent(),
            read_rows(self.output / "designs.parquet"),
            read_rows(self.output / "front.parquet"),
        )

    def _run_stage(self, stage: str, progress: StudyProgress) -> None:
        if self._is_done(stage):
            progress.skip(stage)
            return
        if stage != "data":
            connect(self.config.resources)
        run: dict[str, Callable[[StageProgress], None]] = {
            "data": self._prepare_data,
            "prioritise": self._prioritise,
            "designs": self._search_designs,
            "final": self._refine_best,
            "front": self._measure_front,
            "report": self._report,
        }
        with progress.stage(stage) as share:
            run[stage](share)

    def _is_done(self, stage: str) -> bool:
        """A stage is done when its last file is there; each file appears whole or not at all."""
        last_file = {
            "data": "data/test.parquet",
            "prioritise": "parent.json",
            "designs": "designs.parquet",
            "final": "evaluations.parquet",
            "front": "front.parquet",
            "report": "report.html",
        }
        return (self.output / last_file[stage]).exists()

    def _prepare_data(self, share: StageProgress) -> None:
        source = self._source()
        if is_prepared(source):
            self.workspace.data.mkdir(exist_ok=True)
            for split in SPLITS:
                copy_whole(source / f"{split}.parquet", self.workspace.data / f"{split}.parquet")
            return
        settings = self.config.prepare
        try:
            prepare(
                source,
                self.workspace.data,
                rule=SplitRule(settings.val, settings.test, self.config.seed),
                layout=settings.format,
                min_area=settings.min_area,
                max_side=settings.max_side,
                limits=settings.limits,
                progress=lambda done: share.update(0, 1, f"{done} pictures read"),
            )
        except InputError:
            (self.output / "config.yaml").unlink()  # so that a mended data set may come here
            raise

    def _prioritise(self, share: StageProgress) -> None:
        resources = self.config.resources
        total = measure.prioritise_steps(self.workspace) + 2
        for done in run_task(measure.prioritise, resources, self.workspace):
            share.update(done, total, "scores and layer worth")
        self._check_reachable()
        parent: dict[str, Any] = {}
        for row in run_task(measure.measure_parent, resources, self.workspace):
            parent |= row
            share.update(total - 1, total, "the parent itself")
        for name in ("split", "pictures", "objects", "seconds"):
            del parent[name]
        write_json(parent, self.output / "parent.json")

    def _search_designs(self, share: StageProgress) -> None:
        trials = self.config.designs.trials
        tracking = Tracking(self.config, self.output)

        def watch(number: int, report: dict[str, Any]) -> None:
            note = f"design {number + 1}/{trials}, {_note(report)}"
            share.update(number + _trial_share(report), trials, note)
            if "record" in report:
                tracking.log_design(report["record"])

        records = search_designs(self.workspace, watch)
        distinct = {record["design"]: record for record in records}
        write_rows(distinct.values(), self.output / "designs.parquet", DESIGNS)

    def _refine_best(self, share: StageProgress) -> None:
        def watch(number: int, report: dict[str, Any]) -> None:
            share.update(_trial_share(report), 1, _note(report))

        record = refine_design(self.workspace, self.best_design(), watch)
        self.workspace.choose_design(self.best_design())
        supernet = self.output / "supernet"
        supernet.mkdir(exist_ok=True)
        for name in (WEIGHTS, STATE):
            copy_whole(self.workspace.work / record["checkpoint"] / name, supernet / name)
        parts = sorted((self.workspace.work / "ledger").glob("*.parquet"))
        rows = [row for part in parts for row in read_rows(part)]
        write_rows(rows, self.output / "evaluations.parquet")

    def picture_counts(self) -> dict[str, dict[str, int]]:
        """Pictures and objects of each split."""
        counts = {}
        for split in SPLITS:
            objects = pq.read_table(self.workspace.data / f"{split}.parquet", columns=["objects"])
            column = objects.column("objects").to_pylist()
            counts[split] = {"pictures": len(column), "objects": sum(len(o) for o in column)}
        return counts

    def layer_worth(self) -> list[dict[str, Any]]:
        """Rows of `importance.parquet`, without the neurons' scores."""
        return [
            {name: value for name, value in row.items() if not name.startswith("score_")}
            for row in self.workspace.importance()
        ]

    def profile(self) -> list[dict[str, Any]]:
        """Costs and latency of parent, largest, middle and smallest subnet, before any training.

        The designs are those that the search starts from; importance must have been measured.
        """
        rows = []
        supernet = self.workspace.parent()
        space_of = self.config.designs.space
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

    def designs(self) -> list[dict[str, Any]]:
        """Rows of `designs.parquet`."""
        return read_rows(self.output / "designs.parquet")

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
        weights = f"{self.best_design().key}@{self.config.final.steps}"
        rows = read_rows(self.output / "evaluations.parquet")
        row = next((r for r in rows if (r["subnet"], r["weights"]) == (key, weights)), None)
        if row is None:
            raise InputError(
                f"--subnet: {key} was not evaluated on the final supernet; "
                f"{self.output / 'evaluations.parquet'} lists those that were"
            )
        supernet = measure.load_weights(self.workspace, self.output / "supernet" / WEIGHTS)
        subnet, encoder = Subnet.from_dict(row), self.workspace.encoder
        folder = self.output / "subnets" / key
        save_subnet(extract(supernet.sam, encoder, subnet), encoder, subnet, folder)
        return folder

    def write_report(self) -> Path:
        """Write `report.html` anew from what is on disk."""
        result = self.result()
        path = self.output / "report.html"
        importance = self.workspace.importance()
        write_report(
            path,
            result.front,
            result.parent,
            result.designs,
            importance,
            self.config,
            self.tracking_uri,
        )
        return path

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps this study's runs."""
        return tracking_uri(self.config, self.output)

    def best_design(self) -> Design:
        """The design of the highest hypervolume; of equal ones the first that was tried.

        Raises:
            InputError: no design was searched yet.
        """
        if not self._is_done("designs"):
            raise InputError(f"{self.output} holds no designs yet; run the search first")
        records = read_rows(self.output / "designs.parquet")
        return Design.from_dict(max(records, key=lambda record: record["hypervolume"]))

    def _measure_front(self, share: StageProgress) -> None:
        weights = f"{self.best_design().key}@{self.config.final.steps}"
        rows = read_rows(self.output / "evaluations.parquet")
        on_val = [row for row in rows if row["split"] == "val"]
        front = front_rows(self.workspace, [row for row in on_val if row["weights"] == weights])
        if not front:
            raise InputError(
                "constraints: no subnet that was tried keeps them; loosen them, or give "
                "final.evaluations more"
            )
        on_test = {row["subnet"]: row for row in rows if row["split"] == "test"}
        todo = [row for row in front if row["subnet"] not in on_test]
        supernet = self.output / "supernet" / WEIGHTS
        arguments = (self.workspace, supernet, todo)
        measured = run_task(measure.measure_on_test, self.config.resources, *arguments)
        for done, row in enumerate(measured, start=1):
            on_test[row["subnet"]] = row
            write_rows([*on_val, *on_test.values()], self.output / "evaluations.parquet")
            share.update(done, len(todo), f"test, subnet {done}/{len(todo)}")
        table = [{**row, "miou_test": on_test[row["subnet"]]["miou_test"]} for row in front]
        write_rows(table, self.output / "front.parquet", FRONT)

    def _report(self, share: StageProgress) -> None:
        result = self.result()
        tracking = Tracking(self.config, self.output)
        for done, row in enumerate(result.front, start=1):
            tracking.log_subnet(row, result.parent, self.output / "subnets" / row["subnet"])
            share.update(done, len(result.front) + 1, f"MLflow, subnet {done}/{len(result.front)}")
        tracking.log_study(
            result.front,
            result.parent,
            front_hypervolume(self.workspace, result.front),
            front_figure(result.front, result.parent),
        )
        self.write_report()

    def _parent(self) -> dict[str, Any]:
        parent: dict[str, Any] = json.loads((self.output / "parent.json").read_text())
        return parent

    def _source(self) -> Path:
        return PACKAGED_DATA.get(self.config.data, Path(self.config.data))

    def stage_weights(self) -> dict[str, float]:
        """What each stage costs, roughly, in forward passes of the parent on one picture."""
        config = self.config
        evaluation = 1.5 * (config.evaluation.val_pictures or 64)
        step = 2.5 * config.training.batch_size * (2 + config.training.n_random)
        start = 250  # processes that a training and a search start
        designs, final = config.designs, config.final
        return {
            "data": 10,
            "prioritise": 2 * self.workspace.encoder.depth * config.prioritise.worth_pictures,
            "designs": designs.trials
            * (start + designs.steps * step + designs.evaluations * evaluation),
            "final": start + (final.steps - designs.steps) * step + final.evaluations * evaluation,
            "front": 10 * (config.evaluation.test_pictures or 64),
            "report": 300,
        }

    def _check_output(self) -> None:
        path = self.output / "config.yaml"
        if not path.exists():
            if self.output.exists() and any(self.output.iterdir()):
                raise InputError(
                    f"--output: {self.output} holds other files; give a new or empty directory"
                )
            return
        written = yaml.safe_load(path.read_text())
        if written.get("hash") != self.config.key:
            theirs = check_config({k: v for k, v in written.items() if k != "hash"}, str(path))
            key, mine, other = first_difference(self.config, theirs)
            raise InputError(
                f"--output: {self.output} belongs to another configuration ({key} is {other} "
                f"there, {mine} here); give another directory, or {key}={other}"
            )

    def _claim_output(self) -> None:
        path = self.output / "config.yaml"
        if path.exists():
            return
        self.output.mkdir(parents=True, exist_ok=True)
        values = {**self.config.model_dump(mode="json"), "hash": self.config.key}
        write_text(yaml.safe_dump(values, sort_keys=False), path)

    def _check_inputs(self, stages: Sequence[str]) -> None:
        """Refuse what can't work before anything is written."""
        source = self._source()
        if not self._is_done("data"):
            if not source.is_dir():
                raise InputError(
                    f"data: {self.config.data} is neither a folder nor a data set that ships "
                    f"({', '.join(PACKAGED_DATA)})"
                )
            if is_prepared(source):
                for split in SPLITS:
                    Pictures(source / f"{split}.parquet")
        if "prioritise" in stages:
            _ = self.workspace.constraints
            load_sam(self.config.model, self.config.checkpoint_path, self.config.image_size)

    def _check_reachable(self) -> None:
        """Refuse constraints that no design on offer can keep."""
        space = self.config.designs.space
        names, options = zip(*space.choices().items(), strict=True)
        smallest = [
            self.workspace.costs(
                self.workspace.space(space.design(dict(zip(names, point, strict=True)))).smallest
            )
            for point in itertools.product(*options)
        ]
        for constraint in self.workspace.constraints:
            least = min(costs[constraint.cost] for costs in smallest)
            most = self.workspace.parent_costs[constraint.cost]
            if least > constraint.ceiling:
                raise InputError(
                    f"constraints.{constraint.cost}: {constraint.ceiling:.0f} can't be reached; "
                    f"the designs on offer reach {least} to {most} "
                    f"({least / most:.0%} to 100% of the parent)"
                )


def is_prepared(source: Path) -> bool:
    """Whether a folder holds the three splits that `prepare` writes."""
    return all((source / f"{split}.parquet").is_file() for split in SPLITS)


def _trial_share(report: dict[str, Any]) -> float:
    """How far a design's trial is; the training counts for two thirds."""
    if report["phase"] == "done":
        return 1.0
    before, share = (0.0, 0.65) if report["phase"] == "train" else (0.65, 0.35)
    return before + share * float(report["step"] / report["total"])


def _note(report: dict[str, Any]) -> str:
    if report["phase"] == "train":
        return f"training step {report['step']}/{report['total']}, loss {report['loss']:.3f}"
    hypervolume = f"hypervolume {report['hypervolume']:.4f}"
    if report["phase"] == "search":
        return f"subnet {report['step']}/{report['total']}, {hypervolume}"
    return hypervolume
