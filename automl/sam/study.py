"""A study of SAM and its result. This is the Python API."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.base_study import UNLOGGED, BaseStudy
from automl.ledger import Row, read_rows
from automl.sam import measure, stages
from automl.sam.best import best_subnet
from automl.sam.config import StudyConfig, check_config
from automl.sam.evaluation import check_split, evaluate, find_model
from automl.sam.inputs import check_inputs, data_source
from automl.sam.latency import measure_latency
from automl.sam.profile import profile
from automl.sam.report import write_report
from automl.sam.tables import front_table
from automl.sam.tracking import Tracking
from automl.sam.workspace import Workspace
from search_spaces.design import Design
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.data.prepare import is_prepared
from trainables.data.prompts import PromptKind
from trainables.data.storage import Location
from trainables.data.summary import PrepareSummary, read_summary
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

    def best(self, **bounds: float | str) -> Row:
        """The subnet of the front with the highest mIoU on val that keeps bounds.

        Args:
            bounds: by cost, as constraints are written: `encoder_params="50%"`, `latency_ms=40`.

        Raises:
            InputError: a cost is unknown, a bound is none, or no subnet keeps them all.
        """
        return best_subnet(self.front, self.parent, bounds.items())


class Study(BaseStudy[StudyConfig, Workspace]):
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

    STAGES = stages.STAGES
    ON_RAY = frozenset(stages.STAGES) - {"data"}
    WORKSPACE = Workspace
    check = staticmethod(check_config)

    def subnets_link(self) -> str | None:
        """The page of MLflow that shows the subnets in a table; None before they were logged.

        Where the runs are kept in files, it is the page of `mlflow ui` on this machine.
        """
        if (self.output / UNLOGGED).exists():
            return None
        return Tracking(self.config, self.output).subnets_link()

    def summary(self) -> tuple[dict[str, Any], list[Any]]:
        """The parent's figures and the front's."""
        result = self.result()
        value = {"output": str(self.output), "parent": result.parent, "front": result.front}
        return value, [front_table(result.front, result.parent)]

    def results_link(self) -> str | None:
        """As `subnets_link`."""
        return self.subnets_link()

    def run(self) -> StudyResult:
        """Run all stages; those that are done are not repeated."""
        self.run_until("report")
        return self.result()

    def check_inputs(self, todo: Sequence[str]) -> None:
        """Refuse what can't work before anything is written; see `inputs.check_inputs`."""
        check_inputs(self.workspace, todo)

    def stage_costs(self) -> dict[str, float]:
        """What each stage costs, roughly; see `automl.sam.stages.stage_costs`."""
        return stages.stage_costs(self.workspace)

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
        """The design of the highest hypervolume on the last rung of the outer search.

        Raises:
            InputError: none was searched yet.
        """
        self._needs("designs", "holds no designs yet; run `supersam search` first")
        return stages.best_design(self.workspace)

    def designs(self) -> list[dict[str, Any]]:
        """Rows of `designs.parquet`."""
        return read_rows(self.output / "designs.parquet")

    def prepared(self) -> PrepareSummary:
        """Pictures and objects of each split, and what preparing left out."""
        return read_summary(Location.at(self.workspace.data))

    def layer_worth(self) -> list[dict[str, Any]]:
        """Rows of `importance.parquet`, without the neurons' scores."""
        return [
            {name: value for name, value in row.items() if not name.startswith("score_")}
            for row in self.workspace.importance()
        ]

    def profile(self) -> dict[str, Any]:
        """Sizes, speed and memory of subnets, and what is in reach; see `profile.profile`.

        Needs no data, and writes nothing.
        """
        return profile(self.workspace, self._console)

    def latency(self, threads: int | None = None) -> dict[str, Any]:
        """Measure a latency table here, and write it; see `automl.sam.latency.measure_latency`.

        Needs neither data nor weights.

        Args:
            threads: of the CPU; None: as many as torch has.
        """
        return measure_latency(self.workspace, self._console, threads)

    def evaluate(
        self,
        subnet: str | None = None,
        *,
        model: Path | None = None,
        split: str = "val",
        prompts: Sequence[PromptKind] = ("box", "point"),
        pictures: int | None = None,
        max_objects: int | None = None,
        min_area: int | None = None,
    ) -> dict[str, Any]:
        """Measure the parent, or another model, on a split; see `automl.sam.evaluation.evaluate`.

        A data set that is prepared is read where it is; another is prepared first.

        Args:
            subnet: the key of a standalone subnet, or of any that was evaluated on the final
                supernet.
            model: the folder of a standalone subnet, anywhere.
            split: train, val, test, or all.
            prompts: a row each.
            pictures: only the first so many.
            max_objects: objects prompted in a picture at most; None: the configuration's.
            min_area: pixels that an object needs; None: the configuration's.

        Raises:
            InputError: there is no such model, split or data set, or no object to prompt.
        """
        check_split(split)
        found = find_model(self.workspace, subnet, model)
        return evaluate(
            self.workspace,
            self._data(),
            found,
            split=split,
            kinds=prompts,
            pictures=pictures,
            max_objects=max_objects,
            min_area=min_area,
            console=self._console,
        )

    def _data(self) -> Location:
        """Where the prepared splits are; they are prepared where they have to be."""
        if not self.is_done("data"):
            source = data_source(self.config)
            if is_prepared(source):
                return source
            self.run_until("data")
        return Location.at(self.workspace.data)

    def standalone(self, key: str) -> Supernet:
        """A subnet of `subnets/` as a model of its own.

        Raises:
            InputError: there is none of this key.
        """
        return Supernet(load_subnet(self.workspace.subnet_folder(key)))

    def export(self, key: str) -> Path:
        """Write an evaluated subnet of the final supernet as a model of its own.

        Raises:
            InputError: no such subnet was evaluated.
        """
        self._needs("final", "holds no final supernet yet; run `supersam train` first")
        row = stages.find_evaluated(self.workspace, key)
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
