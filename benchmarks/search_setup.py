"""What benchmarks of the search share: the supernet of a finished study, searched elsewhere."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from automl.cluster import connect
from automl.ledger import Row
from automl.output import read_config
from automl.sam import stages
from automl.sam.config import check_config
from automl.sam.search import search_subnets
from automl.sam.workspace import Workspace
from automl.trial_reports import SearchState
from search_spaces.design import Design
from trainables.supernet import STATE


@dataclass(frozen=True)
class Searchable:
    """A trained supernet, and a directory of its own to search it in.

    Args:
        workspace: of that directory.
        design: the supernet's.
        steps: of its training.
        checkpoint: the folder of its weights.
    """

    workspace: Workspace
    design: Design
    steps: int
    checkpoint: Path

    def search(self, evaluations: int, report: Callable[[SearchState], None]) -> list[Row]:
        """Search it as a study does, on Ray."""
        connect(self.workspace.config.resources)
        return search_subnets(
            self.workspace, self.design, self.steps, self.checkpoint, evaluations, report
        )

    @property
    def ledger(self) -> Path:
        """Where the search keeps what it evaluated."""
        return self.workspace.ledger_part(f"{self.design.key}@{self.steps}")


def searchable(study: Path, root: Path) -> Searchable:
    """The final supernet of a study, to be searched in the directory `root`."""
    study = study.absolute()
    config = read_config(study, check_config)
    torch.set_num_threads(round(config.resources.evaluator_cpus))
    if not (root / "data").exists():
        shutil.copytree(study / "data", root / "data")
        shutil.copy(study / "importance.parquet", root)
    steps = json.loads((study / "supernet" / STATE).read_text())["step"]
    design = stages.best_design(Workspace(config, study))
    return Searchable(Workspace(config, root.absolute()), design, steps, study / "supernet")
