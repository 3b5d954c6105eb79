"""A study of channel pruning, and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.base_study import REPORT, BaseStudy
from automl.channel_pruning import stages
from automl.channel_pruning.config import PruningConfig, check_config
from automl.channel_pruning.report import write_report
from automl.channel_pruning.tables import front_cells
from automl.channel_pruning.workspace import PruningWorkspace
from automl.ledger import Row, read_rows
from search_spaces.errors import InputError

GIVEN = {"data": "a data set: a folder for each class", "weights": "the trained network's"}
"""Keys without which nothing runs."""


@dataclass(frozen=True)
class PruningResult:
    """What a study found: rows of `front.parquet` and `designs.parquet`, the parent's figures."""

    output: Path
    parent: dict[str, Any]
    designs: list[dict[str, Any]]
    front: list[Row]


class PruningStudy(BaseStudy[PruningConfig, PruningWorkspace]):
    """A search for networks of fewer channels; args as of any study."""

    STAGES = stages.STAGES
    ON_RAY = frozenset(stages.STAGES) - {"data"}
    WORKSPACE = PruningWorkspace
    check = staticmethod(check_config)

    def run(self) -> PruningResult:
        """Run all stages; those that are done are not repeated."""
        self.run_until("report")
        return self.result()

    def result(self) -> PruningResult:
        """What the study has found.

        Raises:
            InputError: it has no front yet.
        """
        self._needs("front", "holds no front yet; run the study to its end first")
        designs, front = (
            read_rows(self.output / f"{name}.parquet") for name in ("designs", "front")
        )
        return PruningResult(self.output, self.workspace.read_parent(), designs, front)

    def check_inputs(self, todo: Sequence[str]) -> None:
        """Refuse what can't work before anything is written: data, weights, groups, budgets."""
        if {*todo} == {REPORT}:
            return
        workspace = self.workspace
        for key, what in GIVEN.items():
            if getattr(self.config, key) is None:
                raise InputError(f"{key}: none is given; give {key}=PATH ({what})")
        prepared = "data" not in todo
        classes = workspace.classes if prepared else workspace.source()["train"].classes
        workspace.check_network(workspace.load_network(len(classes)))

    def stage_costs(self) -> dict[str, float]:
        """What each stage costs, roughly; see `stages.stage_costs`."""
        return stages.stage_costs(self.workspace)

    def summary(self) -> tuple[dict[str, Any], list[Any]]:
        """The parent's figures and the front's."""
        result = self.result()
        value = {"output": str(self.output), "parent": result.parent, "front": result.front}
        return value, [front_cells(result.front, result.parent).on_terminal("Front")]

    def write_report(self) -> Path:
        """Write `report.html` anew from what is on disk.

        Raises:
            InputError: there is no front yet.
        """
        self._needs("front", "holds no front yet; run the study to its end first")
        return write_report(self.workspace)
