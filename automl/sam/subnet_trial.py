"""What an actor of the inner search does; it imports no more than it needs, to start fast."""

from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from automl.ledger import Row, evaluated_whole, read_rows
from automl.sam.measure import load_weights
from automl.sam.workspace import Workspace
from search_spaces.subnet import Subnet
from trainables.early_stopping import Rival
from trainables.sam.evaluator import Evaluator
from trainables.subnet import score_in_rungs


class SubnetTrial(tune.Trainable):
    """Scores one subnet a trial; the actor keeps what they share for all of them."""

    def setup(
        self, config: dict[str, Any], workspace: Workspace, weights: Path, part: Path
    ) -> None:
        """Load what all trials share.

        Args:
            config: the first trial's subnet.
            workspace: of the study.
            weights: of the trained supernet.
            part: the ledger's, with what was evaluated so far.
        """
        self._part = part
        self._objective = workspace.objective
        self._stop_early = workspace.config.search.stop_early and self._objective is None
        self._evaluator = Evaluator(
            load_weights(workspace, weights),
            workspace.examples("val"),
            workspace.config.evaluation.batch_size,
            workspace.config.resources.evaluator_cache_mb << 20,
            with_masks=self._objective is not None,
        )

    def step(self) -> dict[str, Any]:
        """Evaluate the subnet of the trial's configuration, once."""
        rivals = rivals_of(read_rows(self._part)) if self._stop_early else []
        subnet = Subnet.from_dict(self.config)
        row = score_in_rungs(self._evaluator, subnet, "val", rivals, objective=self._objective)
        return {"row": row, "quality": row["expected"], "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next subnet without a new process."""
        self.config = new_config
        return True


def rivals_of(rows: list[Row]) -> list[Rival]:
    """Those subnets that were evaluated whole."""
    return [
        Rival(row["encoder_macs"], np.array(row["object_ious"], dtype=np.float32))
        for row in evaluated_whole(rows)
    ]
