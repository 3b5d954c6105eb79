"""A study of any family: its stages, each alone or all together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from rich.console import Console

from automl.base_config import BaseConfig
from automl.base_workspace import BaseWorkspace
from automl.cluster import check_storage, connect, ended_by_signals
from automl.delivery import check_server
from automl.failures import disk_full
from automl.output import Check, check_output, claim_output, held_output
from automl.progress import StageProgress, StudyProgress
from automl.runs import tracking_uri
from search_spaces.errors import InputError

UNLOGGED = "unlogged"
"""A file that is there while MLflow lacks something of a study that is else done."""
REPORT = "report"
"""The last stage of every family."""
C = TypeVar("C", bound=BaseConfig)
W = TypeVar("W", bound=BaseWorkspace)
Stages = Mapping[str, tuple[Callable[[W, StageProgress], None], str]]
"""In order: what runs, and the file that it writes last."""


def is_done(root: Path, stages: Mapping[str, tuple[Any, str]], stage: str) -> bool:
    """Whether a stage's last file is there; files appear whole or not at all."""
    last = (root / stages[stage][1]).exists()
    return last and not (stage == REPORT and (root / UNLOGGED).exists())


class BaseStudy(ABC, Generic[C, W]):
    """Something that is searched in stages, and whose whole state is its output directory.

    A study that was cut off goes on where it was when it is run again with the same configuration
    and the same directory.

    Args:
        config: everything that the study does follows from it.
        output: the output directory; made when the first stage runs.
        console: where progress is shown; standard error by default.

    Raises:
        InputError: the directory belongs to another configuration or holds other files.
    """

    STAGES: ClassVar[Stages[Any]]
    ON_RAY: ClassVar[frozenset[str]]
    """Stages that run on Ray, and whose results are logged."""
    WORKSPACE: ClassVar[type[Any]]
    check: ClassVar[Check[Any]]
    """Makes the family's configuration from its values."""

    def __init__(self, config: C, output: str | Path, console: Console | None = None) -> None:
        self.config = config
        self.workspace: W = self.WORKSPACE(config, Path(output).resolve())
        self._console = console or Console(stderr=True)
        check_output(self.workspace, self.check)

    @abstractmethod
    def check_inputs(self, todo: Sequence[str]) -> None:
        """Refuse what can't work before anything is written.

        Args:
            todo: stages that are still to run.

        Raises:
            InputError: an input can't be used.
        """

    @abstractmethod
    def stage_costs(self) -> dict[str, float]:
        """What each stage costs, roughly, in a unit of the family's."""

    @abstractmethod
    def summary(self) -> tuple[dict[str, Any], list[Any]]:
        """What a study that is done has found: as JSON, and as tables for people.

        Raises:
            InputError: it is not done yet.
        """

    @abstractmethod
    def write_report(self) -> Path:
        """Write `report.html` anew from what is on disk.

        Raises:
            InputError: there is no front yet.
        """

    def results_link(self) -> str | None:
        """The page of MLflow that shows what was found in a table; None where there is none."""
        return None

    @property
    def output(self) -> Path:
        """The output directory."""
        return self.workspace.root

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps this study's runs."""
        return tracking_uri(self.config.tracking, self.output)

    def run_until(self, last: str) -> None:
        """Run the stages up to one of `STAGES`, which is included.

        Raises:
            InputError: an input can't be used; nothing was written.
            DiskFullError: there was no room to write.
        """
        names = list(self.STAGES)[: list(self.STAGES).index(last) + 1]
        todo = [name for name in names if not self.is_done(name)]
        if todo:
            self.check_inputs(todo)
            if self.ON_RAY & {*todo}:
                check_server(self.config)
            claim_output(self.workspace)
        with held_output(self.workspace) if todo else nullcontext():
            try:
                self._run_stages(names, todo)
            except Exception as error:
                if (full := disk_full(error, self.output)) is not None:
                    raise full from error
                raise

    def is_done(self, stage: str) -> bool:
        """Whether a stage was run to its end."""
        return is_done(self.output, self.STAGES, stage)

    def _run_stages(self, names: Sequence[str], todo: Sequence[str]) -> None:
        if self.ON_RAY & {*todo}:
            connect(self.config.resources, partial(self._console.print, markup=False))
            check_storage(self.output)
        costs = self.stage_costs()
        with ended_by_signals(), StudyProgress(costs, self._console, self.output) as progress:
            for name in names:
                if name not in todo:
                    progress.skip(name)
                    continue
                with progress.stage(name) as share:
                    self.STAGES[name][0](self.workspace, share)

    def _needs(self, stage: str, otherwise: str) -> None:
        if not self.is_done(stage):
            raise InputError(f"{self.output} {otherwise}")
