"""The inner search: Ray Tune over the subnets of one trained supernet.

Actors keep the supernet, the pictures and what subnets have in common (`Evaluator`). An evaluation
ends early where a subnet has clearly lost against one that costs no more (`early_stopping.py`); its
row says `stopped`, counts as an evaluation, and is never on a front.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from automl.ledger import Ledger, Row, evaluated_whole
from automl.sam.front import front_hypervolume, front_rows
from automl.sam.ledger import SUBNETS
from automl.sam.proposals import FAILED, SubnetProposals
from automl.sam.subnet_trial import SubnetTrial
from automl.sam.workspace import Workspace
from automl.searchers.registry import find_searcher
from automl.study_log import log_line
from automl.trial_reports import SearchState
from automl.trials import RETRIES, Recorder, run_trials
from search_spaces.design import Design
from search_spaces.subnet import Subnet
from trainables.early_stopping import rung_correlations
from trainables.supernet import WEIGHTS


def search_subnets(
    workspace: Workspace,
    design: Design,
    steps: int,
    checkpoint: Path,
    evaluations: int,
    report: Callable[[SearchState], None],
) -> list[Row]:
    """Evaluate subnets of a trained supernet until there are so many.

    What the ledger holds already is not evaluated again.

    Args:
        workspace: of the study.
        design: what space the supernet was trained for.
        steps: how long it was trained.
        checkpoint: the folder of its checkpoint.
        evaluations: distinct subnets in all.
        report: told how far the search is after each evaluation.

    Returns:
        The ledger's rows; fewer than `evaluations` where the space holds no more subnets that keep
        the constraints.

    Raises:
        SearchFailedError: too many subnets in a row could not be evaluated.
        InputError: `search.objective` gives no metrics, or the cluster has no room.
    """
    identity = {"design": design.key, "weights": f"{design.key}@{steps}"}
    say = partial(log_line, workspace.root)
    ledger = Ledger(workspace.ledger_part(identity["weights"]), SUBNETS, say)

    def known(subnet: Subnet) -> float | None:
        row = ledger.find(subnet.key, "val")
        if row is None:
            return None
        return FAILED if row["failure"] else row["expected"]

    def more(row: Row) -> Row:
        costs = workspace.costs(Subnet.from_dict(row))
        predicted = {"latency_predicted_ms": "latency_ms", "peak_memory": "peak_memory"}
        return identity | {name: costs.get(cost) for name, cost in predicted.items()}

    def failed(values: dict[str, Any], reason: str) -> Row:
        subnet = Subnet.from_dict(values)
        counted = workspace.cost_table.costs(subnet).to_dict()
        row = {"subnet": subnet.key, **subnet.to_dict(), **counted, "split": "val", "pictures": 0}
        return {**row, **identity, "stopped": False, "failure": reason}

    def tell() -> None:
        report(search_state(workspace, ledger.rows()))

    if len(ledger) >= evaluations:
        return ledger.rows()
    proposals = SubnetProposals(
        workspace.space(design),
        workspace.costs,
        workspace.parent_costs["encoder_macs"],
        workspace.constraints,
        known,
        workspace.config.seed,
        find_searcher(workspace.config.search.searcher),
        most=evaluations - len(ledger),
        retries=RETRIES,
        floor=workspace.config.search.quality_floor,
    )
    trial = tune.with_parameters(
        SubnetTrial, workspace=workspace, weights=checkpoint / WEIGHTS, part=ledger.path
    )
    recorder = Recorder(ledger, more, failed, proposals, tell, say, "subnet")
    folder = workspace.work / "tune" / f"subnets-{identity['weights']}"
    resources = workspace.config.resources
    run_trials(trial, proposals, recorder, resources, folder, evaluations - len(ledger))
    return ledger.rows()


def search_state(workspace: Workspace, rows: list[Row]) -> SearchState:
    """How far the search is that made these rows."""
    front = front_rows(workspace, rows)
    return SearchState(len(rows), len(front), front_hypervolume(workspace, front))


def stopping_metrics(rows: list[Row]) -> dict[str, float]:
    """What a search saved by ending evaluations early, and what it could know when it did.

    Args:
        rows: of one supernet on val, at least one of which did not fail.

    Returns:
        `stopped`, the share of evaluations that ended early; `pictures_seen`, the share of all
        pictures that were looked at; `rank_correlation_N` for each rung but the last, Spearman's,
        between the mIoU after it and on all pictures, over subnets that were evaluated whole;
        without the last where all of those score the same.
    """
    rows = [row for row in rows if not row.get("failure")]
    whole = evaluated_whole(rows)
    most = max(row["pictures"] for row in rows)
    found = {
        "stopped": 1 - len(whole) / len(rows),
        "pictures_seen": sum(row["pictures"] for row in rows) / (most * len(rows)),
    }
    *correlations, _ = rung_correlations([row["rung_mious"] for row in whole])
    named = {f"rank_correlation_{n}": value for n, value in enumerate(correlations, start=1)}
    return found | {name: value for name, value in named.items() if math.isfinite(value)}
