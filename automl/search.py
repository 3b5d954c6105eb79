"""The inner search: Ray Tune over the subnets of one trained supernet."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from automl.ledger import Ledger, Row
from automl.measure import load_weights
from automl.pareto import front_of, hypervolume, objectives
from automl.searchers.proposals import SubnetProposals
from automl.searchers.registry import find_searcher
from automl.workspace import Workspace
from search_spaces.design import Design
from search_spaces.subnet import Subnet
from trainables.subnet import score_subnet
from trainables.supernet import WEIGHTS


class SubnetTrial(tune.Trainable):
    """Scores one subnet a trial; the actor keeps supernet and pictures for all of them."""

    def setup(self, config: dict[str, Any], workspace: Workspace, weights: Path) -> None:
        """Load what all trials share."""
        self._workspace = workspace
        self._supernet = load_weights(workspace, weights)
        self._examples = workspace.examples("val")

    def step(self) -> dict[str, Any]:
        """Evaluate the subnet of the trial's configuration, once."""
        batch_size = self._workspace.config.evaluation.batch_size
        subnet = Subnet.from_dict(self.config)
        row = score_subnet(self._supernet, subnet, self._examples, "val", batch_size)
        return {"row": row, "miou_val": row["miou_val"], "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next subnet without a new process."""
        self.config = new_config
        return True


class LocalCallback(tune.Callback):
    """A callback that may hold anything: Tune's saved state, which is never read, leaves it out."""

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Saved as a callback that does nothing."""
        return tune.Callback, ()


class _Recorder(LocalCallback):
    """Writes each result into the ledger as soon as it is there."""

    def __init__(
        self, ledger: Ledger, identity: dict[str, Any], report: Callable[[], None]
    ) -> None:
        self._ledger, self._identity, self._report = ledger, identity, report

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._ledger.record({**result["row"], **self._identity})
        self._report()


def search_subnets(
    workspace: Workspace,
    design: Design,
    steps: int,
    checkpoint: Path,
    evaluations: int,
    report: Callable[[int, float], None],
) -> list[Row]:
    """Evaluate subnets of a trained supernet until there are so many.

    What the ledger holds already is not evaluated again.

    Args:
        workspace: of the study.
        design: what space the supernet was trained for.
        steps: how long it was trained.
        checkpoint: the folder of its checkpoint.
        evaluations: distinct subnets in all.
        report: told, after each evaluation, how many there are and their hypervolume.

    Returns:
        The ledger's rows; fewer than `evaluations` where the space holds no more subnets that keep
        the constraints.

    Raises:
        RuntimeError: an evaluation failed.
    """
    identity = {"design": design.key, "weights": f"{design.key}@{steps}"}
    ledger = Ledger(workspace.ledger_part(identity["weights"]))
    there, limit = len(workspace.pictures("val")), workspace.picture_limit("val")
    pictures = there if limit is None else min(there, limit)

    def known(subnet: Subnet) -> float | None:
        row = ledger.find(subnet=subnet.key, split="val", pictures=pictures, **identity)
        return row["miou_val"] if row else None

    def tell() -> None:
        report(len(ledger), front_hypervolume(workspace, ledger.rows()))

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
    )
    resources = workspace.config.resources
    storage = workspace.work / "tune"
    name = f"subnets-{identity['weights']}"
    shutil.rmtree(storage / name, ignore_errors=True)  # of a search that was cut off
    trial = tune.with_parameters(SubnetTrial, workspace=workspace, weights=checkpoint / WEIGHTS)
    per_trial = {"CPU": resources.evaluator_cpus, "GPU": resources.evaluator_gpus}
    results = tune.Tuner(
        tune.with_resources(trial, per_trial),
        tune_config=tune.TuneConfig(
            search_alg=proposals,
            num_samples=evaluations - len(ledger),
            max_concurrent_trials=resources.evaluators,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(storage),
            callbacks=[_Recorder(ledger, identity, tell)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(fail_fast=True),
            verbose=0,
        ),
    ).fit()
    raise_first_error(results)
    shutil.rmtree(storage / name, ignore_errors=True)
    return ledger.rows()


def raise_first_error(results: tune.ResultGrid) -> None:
    """A failed trial, or one without metrics, is an error, never an empty result."""
    for result in results:
        if result.error is not None:
            raise RuntimeError(f"a trial failed: {result.error}") from result.error
        if not result.metrics:
            raise RuntimeError(f"a trial ended without metrics: {result.path}")


def front_rows(workspace: Workspace, rows: list[Row]) -> list[Row]:
    """The non-dominated rows, smallest subnet first."""
    return front_of(rows, _points(workspace, rows))


def front_hypervolume(workspace: Workspace, rows: list[Row]) -> float:
    """Hypervolume of rows, against the reference point (0, 0)."""
    return hypervolume(_points(workspace, rows))


def _points(workspace: Workspace, rows: list[Row]) -> list[tuple[float, float]]:
    parent = workspace.parent_costs["encoder_macs"]
    return [objectives(row["encoder_macs"], row["miou_val"], parent) for row in rows]
