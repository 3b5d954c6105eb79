"""A search over plans of convolutions and its result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automl.base_study import BaseStudy
from automl.convolution import stages
from automl.convolution.config import ConvolutionConfig, check_config
from automl.convolution.report import write_report
from automl.convolution.tables import UNITS, layer_title, plans_table
from automl.convolution.workspace import ConvolutionWorkspace
from automl.ledger import Row, read_rows
from trainables.convolution.tuned import TunedTable


class ConvolutionStudy(BaseStudy[ConvolutionConfig, ConvolutionWorkspace]):
    """A search for the plans by which convolutions take least time and memory, shape by shape.

    Args and Raises as of any study.
    """

    STAGES = stages.STAGES
    ON_RAY = frozenset(stages.STAGES)
    WORKSPACE = ConvolutionWorkspace
    check = staticmethod(check_config)

    def check_inputs(self, todo: Sequence[str]) -> None:
        """There are none: pictures and weights are random."""

    def stage_costs(self) -> dict[str, float]:
        """What each stage costs, roughly; see `automl.convolution.stages.stage_costs`."""
        return stages.stage_costs(self.workspace)

    def front(self) -> list[Row]:
        """Rows of `front.parquet`.

        Raises:
            InputError: it is not there yet.
        """
        self._needs("front", "holds no front yet; run the study to its end first")
        return read_rows(self.output / stages.FRONT_TABLE)

    def tuned(self) -> TunedTable:
        """The plans that were found, as `conv2d` and `swap_convolutions` take them.

        Raises:
            InputError: they are not there yet, or damaged.
        """
        self._needs("front", "holds no front yet; run the study to its end first")
        return TunedTable.load(self.output / stages.TUNED)

    def summary(self) -> tuple[dict[str, Any], list[Any]]:
        """The front's plans and what they are compared with."""
        front = self.front()
        tables: list[Any] = []
        for layer in self.config.names:
            own = [row for row in front if row["layer"] == layer]
            tables.append(plans_table(own).on_terminal(layer_title(own)))
        tuned = str(self.output / stages.TUNED)
        return {"output": str(self.output), "tuned": tuned, "front": front}, [*tables, UNITS]

    def write_report(self) -> Path:
        """Write `report.html` anew from what is on disk.

        Raises:
            InputError: there is no front yet.
        """
        self._needs("front", "holds no front yet; run the study to its end first")
        return write_report(self.workspace)
