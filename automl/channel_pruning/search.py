"""The inner search: Ray Tune over the budgets of one trained pruner.

Actors keep the network, the pruner and the pictures. Each budget's channels are removed for real,
what is left is fine-tuned for a short while, and its accuracy is measured on val.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from automl.channel_pruning.front import front_hypervolume, front_rows, point
from automl.channel_pruning.ledger import NETWORKS
from automl.channel_pruning.proposals import FAILED, BudgetProposals
from automl.channel_pruning.workspace import (
    PruningWorkspace,
    device,
    macs_budget,
    network_key,
    weights_key,
)
from automl.ledger import Ledger, Row
from automl.searchers.protocol import Values
from automl.searchers.registry import find_searcher
from automl.study_log import log_line
from automl.trial_reports import SearchState
from automl.trials import RETRIES, Recorder, run_trials
from search_spaces.pruner_design import PrunerDesign
from search_spaces.pruning_budget import PruningBudget
from trainables.channel_pruning.costs import count_params
from trainables.channel_pruning.evaluation import accuracy, recalibrate
from trainables.channel_pruning.fine_tuning import fine_tune
from trainables.channel_pruning.scoring import find_channels


class BudgetTrial(tune.Trainable):
    """Evaluates one budget a trial; the actor keeps what they share for all of them."""

    def setup(
        self,
        config: dict[str, Any],
        workspace: PruningWorkspace,
        design: PrunerDesign,
        checkpoint: Path,
    ) -> None:
        """Load what all trials share.

        Args:
            config: the first trial's budget.
            workspace: of the study.
            design: of the pruner.
            checkpoint: the folder of its weights.
        """
        self._workspace = workspace
        self._prunable = workspace.prunable()
        self._hypernetwork = workspace.trained(design, self._prunable, checkpoint)
        self._train, self._val = workspace.images("train"), workspace.images("val")

    def step(self) -> dict[str, Any]:
        """Evaluate the budget of the trial's configuration, once."""
        start, study = time.perf_counter(), self._workspace.config
        budget, prunable = study.budgets.from_flat(self.config), self._prunable
        selection = find_channels(self._hypernetwork, prunable, macs_budget(budget))
        kept = selection.kept(prunable.groups)
        network = prunable.slimmed(kept)
        batches = study.tuning.recalibration
        measured = partial(
            accuracy,
            network,
            self._val,
            image_size=study.image_size,
            device=device(),
            batch_size=study.evaluation.batch_size,
        )
        recalibrate(network, self._train, image_size=study.image_size, batches=batches)
        pruned = measured()
        fine_tune(
            network,
            self._train,
            study.tuning,
            steps=study.search.tuning_steps,
            horizon=study.search.tuning_steps,
            image_size=study.image_size,
            seed=study.seed,
        )
        recalibrate(network, self._train, image_size=study.image_size, batches=batches)
        row = {
            "share": budget.share,
            "allocation": budget.allocation,
            "channels": [len(kept[group.name]) for group in prunable.groups],
            "kept": [list(kept[group.name]) for group in prunable.groups],
            "params": count_params(network),
            "macs": prunable.macs(kept),
            "accuracy_pruned": pruned,
            "accuracy_val": measured(),
            "pictures": len(self._val),
            "seconds": time.perf_counter() - start,
        }
        saved, quality = point(row, self._workspace.parent_macs)
        return {"row": row, "saved": saved, "quality": quality, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next budget without a new process."""
        self.config = new_config
        return True


def search_budgets(
    workspace: PruningWorkspace,
    design: PrunerDesign,
    steps: int,
    checkpoint: Path,
    evaluations: int,
    report: Callable[[SearchState], None],
) -> list[Row]:
    """Evaluate budgets of a trained pruner until there are so many.

    What the ledger holds already is not evaluated again.

    Args:
        workspace: of the study.
        design: of the pruner.
        steps: how long it was trained.
        checkpoint: the folder of its checkpoint.
        evaluations: distinct budgets in all; where fewer are on offer, all of them.
        report: told how far the search is after each evaluation.

    Returns:
        The ledger's rows.

    Raises:
        SearchFailedError: too many in a row could not be evaluated.
        InputError: the cluster has no room.
    """
    weights, study = weights_key(design, steps), workspace.config
    parent_macs, say = workspace.parent_macs, partial(log_line, workspace.root)
    ledger = Ledger(workspace.ledger_part(weights), NETWORKS, say)
    identity = {
        "design": design.key,
        "weights": weights,
        "split": "val",
        "tuning_steps": study.search.tuning_steps,
    }

    def known(budget: PruningBudget) -> Values | None:
        row = ledger.find(budget.share, budget.allocation, "val")
        if row is None:
            return None
        return FAILED if row["failure"] else Values(*point(row, parent_macs))

    def more(row: Row) -> Row:
        return {**identity, "network": network_key(weights, study.budgets.from_flat(row))}

    def failed(config: dict[str, Any], why: str) -> Row:
        return {**config, **more(config), "failure": why}

    def tell() -> None:
        report(search_state(ledger.rows(), parent_macs))

    most = min(evaluations, study.budgets.size) - len(ledger)
    if most <= 0:
        return ledger.rows()
    proposals = BudgetProposals(
        study.budgets,
        known,
        study.seed,
        find_searcher(study.search.searcher),
        most=most,
        retries=RETRIES,
    )
    trial = tune.with_parameters(
        BudgetTrial, workspace=workspace, design=design, checkpoint=checkpoint
    )
    recorder = Recorder(ledger, more, failed, proposals, tell, say, "network")
    folder = workspace.work / "tune" / f"budgets-{weights}"
    run_trials(trial, proposals, recorder, study.resources, folder, most)
    return ledger.rows()


def search_state(rows: list[Row], parent_macs: int) -> SearchState:
    """How far the search is that made these rows."""
    front = front_rows(rows, parent_macs)
    return SearchState(len(rows), len(front), front_hypervolume(front, parent_macs))
