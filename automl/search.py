"""The inner search: Ray Tune over the subnets of one trained supernet.

Actors keep the supernet, the pictures and what subnets have in common (`Evaluator`). An evaluation
ends early where a subnet has clearly lost against one that costs no more (`early_stopping.py`); its
row says `stopped`, counts as an evaluation, and is never on a front. One that fails is tried once
more, in a new process, since machines fail as well; then its row says why, and the search goes on
unless too many fail in a row.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ray import cloudpickle, tune

from automl.failures import reason
from automl.ledger import Ledger, Row, evaluated_whole, read_rows
from automl.measure import load_weights
from automl.pareto import front_of, hypervolume, objectives
from automl.placement import await_evaluator
from automl.searchers.proposals import FAILED, SubnetProposals
from automl.searchers.registry import find_searcher
from automl.study_log import log_line
from automl.trial_order import NewestFirst
from automl.workspace import Workspace
from search_spaces.design import Design
from search_spaces.errors import InputError
from search_spaces.subnet import Subnet
from trainables.early_stopping import Rival, rung_correlations
from trainables.sam.evaluator import Evaluator
from trainables.sam.objective import quality
from trainables.subnet import score_in_rungs
from trainables.supernet import WEIGHTS

RETRIES = 1
"""How many times an evaluation that failed is tried again, in a new process."""
FAILURES = 10
"""So many subnets in a row that could not be evaluated end a search."""
FIRST_FAILURES = 3
"""So many do where none could be evaluated before."""


@dataclass(frozen=True)
class SearchState:
    """How far a search is.

    Args:
        evaluations: subnets that were evaluated, whole or not.
        front_size: non-dominated ones.
        hypervolume: of these.
    """

    evaluations: int
    front_size: int
    hypervolume: float


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


class LocalCallback(tune.Callback):
    """A callback that may hold anything: Tune's saved state, which is never read, leaves it out."""

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Saved as a callback that does nothing."""
        return tune.Callback, ()


class SearchFailedError(RuntimeError):
    """Too many subnets in a row could not be evaluated."""


class _Recorder(LocalCallback):
    """Writes each result into the ledger as soon as it is there.

    Args:
        ledger: of the supernet.
        more: completes the row of a subnet that was evaluated.
        failed: the row of one that was not, and why.
        proposals: told to end where it makes no sense to go on.
        report: called after each.
        say: told of what fails.

    Attributes:
        error: why it makes no sense to go on.
    """

    def __init__(
        self,
        ledger: Ledger,
        more: Callable[[Row], Row],
        failed: Callable[[Subnet, str], Row],
        proposals: SubnetProposals,
        report: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._ledger, self._more, self._failed = ledger, more, failed
        self._proposals, self._report, self._say = proposals, report, say
        self._in_a_row = 0
        self.error: Exception | None = None

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._in_a_row = 0
        self._ledger.record({**result["row"], **self._more(result["row"])})
        self._report()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial_error(trial)
        if isinstance(error, InputError):
            self._give_up(error)
            return
        subnet, why = Subnet.from_dict(trial.config), reason(error)
        if self._proposals.is_tried_again(subnet):
            self._say(f"the evaluation of subnet {subnet.key} failed: {why}; it is tried again")
            return
        self._say(f"subnet {subnet.key} could not be evaluated: {why}; the search goes on")
        self._ledger.record(self._failed(subnet, why))
        self._report()
        self._in_a_row += 1
        none_before = all(row["failure"] for row in self._ledger.rows())
        if self._in_a_row >= (FIRST_FAILURES if none_before else FAILURES):
            said = f"{self._in_a_row} subnets in a row could not be evaluated; the last: {why}"
            self._give_up(SearchFailedError(said))

    def _give_up(self, error: Exception) -> None:
        self.error = self.error or error
        self._proposals.end()


def trial_error(trial: Any) -> Exception:
    """What a trial of Tune's failed of."""
    # Tune's own copy, not `get_pickled_error`: that reads what is yet to be brought to storage.
    return _cause(cloudpickle.loads(Path(trial.pickled_error_file).read_bytes()))


def _cause(error: Exception) -> Exception:
    """What a trial raised, out of what Ray made of it."""
    while isinstance(cause := getattr(error, "cause", None), Exception):
        error = cause
    return error


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
    ledger = Ledger(workspace.ledger_part(identity["weights"]), say)

    def known(subnet: Subnet) -> float | None:
        row = ledger.find(subnet.key, "val")
        if row is None:
            return None
        return FAILED if row["failure"] else row["expected"]

    def more(row: Row) -> Row:
        costs = workspace.costs(Subnet.from_dict(row))
        predicted = {"latency_predicted_ms": "latency_ms", "peak_memory": "peak_memory"}
        return identity | {name: costs.get(cost) for name, cost in predicted.items()}

    def failed(subnet: Subnet, reason: str) -> Row:
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
    )
    resources = workspace.config.resources
    storage = workspace.work / "tune"
    name = f"subnets-{identity['weights']}"
    shutil.rmtree(storage / name, ignore_errors=True)  # of a search that was cut off
    trial = tune.with_parameters(
        SubnetTrial, workspace=workspace, weights=checkpoint / WEIGHTS, part=ledger.path
    )
    recorder = _Recorder(ledger, more, failed, proposals, tell, say)
    tune.Tuner(
        tune.with_resources(trial, await_evaluator(resources).bundle),
        tune_config=tune.TuneConfig(
            search_alg=proposals,
            scheduler=NewestFirst(),
            num_samples=(evaluations - len(ledger)) * (1 + RETRIES),  # proposals end before
            max_concurrent_trials=resources.evaluators,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage),
            callbacks=[recorder],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            # Tune's own retries count the death of a process once for each of its open calls.
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    ).fit()
    shutil.rmtree(storage / name, ignore_errors=True)
    if recorder.error is not None:
        raise recorder.error
    return ledger.rows()


def raise_first_error(results: tune.ResultGrid) -> None:
    """A failed trial, or one without metrics, is an error, never an empty result.

    Raises:
        InputError: that is what a trial raised.
        RuntimeError: it failed of something else, or has no metrics.
    """
    for result in results:
        if result.error is not None and isinstance(cause := _cause(result.error), InputError):
            raise cause
        if result.error is not None:
            raise RuntimeError(f"a trial failed: {result.error}") from result.error
    for result in results:  # a trial's failure may have ended others
        if not result.metrics:
            raise RuntimeError(f"a trial ended without metrics: {result.path}")


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


def front_rows(workspace: Workspace, rows: list[Row]) -> list[Row]:
    """The non-dominated of those that were evaluated whole, smallest subnet first."""
    whole = evaluated_whole(rows)
    return front_of(whole, _points(workspace, whole))


def front_hypervolume(workspace: Workspace, front: list[Row]) -> float:
    """Hypervolume of a front, against the reference point (0, 0)."""
    return hypervolume(_points(workspace, front))


def balanced(workspace: Workspace, front: list[Row]) -> Row:
    """The subnet of a front that by itself dominates the largest area: MACs saved times mIoU."""
    return max(front, key=lambda row: front_hypervolume(workspace, [row]))


def _points(workspace: Workspace, rows: list[Row]) -> list[tuple[float, float]]:
    parent = workspace.parent_costs["encoder_macs"]
    return [objectives(row["encoder_macs"], quality(row, "val"), parent) for row in rows]
