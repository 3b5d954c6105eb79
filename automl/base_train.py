"""Ray Train around any training that goes on from its last checkpoint."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer

from automl.base_workspace import BaseWorkspace
from automl.failures import reason
from automl.placement import await_training
from automl.study_log import log_line
from search_spaces.errors import InputError
from trainables.supernet import sound_checkpoint

RETRIES = 2
"""How many times a training that failed goes on from its last checkpoint."""


class _Failures(ray.train.UserCallback):
    """Says of each failure of a training what it was.

    Args:
        what: is trained.
        say: what to do with a line.
    """

    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self._what, self._say = what, say
        self._count = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self._count += 1
        then = "it goes on from its last checkpoint" if self._count <= RETRIES else "it ends"
        failed = [f"process {rank}: {reason(e)}" for rank, e in worker_exceptions.items()]
        self._say(f"the training of {self._what} failed, {'; '.join(failed)}; {then}")


def last_checkpoint(root: Path, what: str) -> Path | None:
    """In a worker: where its training goes on from; None where it starts anew.

    Args:
        root: the study's output directory, whose log says what is damaged.
        what: is trained.
    """
    newest, say = ray.train.get_checkpoint(), partial(log_line, root)
    checkpoint = sound_checkpoint(Path(newest.path), say) if newest else None
    if newest and not checkpoint:
        say(f"no checkpoint of {what} is left: its training starts anew")
    return checkpoint


def report_step(constants: dict[str, Any], metrics: dict[str, Any], folder: Path | None) -> None:
    """In a worker: report a step's metrics, along with what is constant, and keep a checkpoint.

    Args:
        folder: of the checkpoint; None: there is none at this step.
    """
    kept = Checkpoint.from_directory(folder) if folder else None
    ray.train.report({**constants, **metrics}, checkpoint=kept)


def run_training(
    workspace: BaseWorkspace,
    loop: Callable[[dict[str, Any]], None],
    loop_config: dict[str, Any],
    *,
    name: str,
    what: str,
    callbacks: Sequence[ray.train.UserCallback] = (),
) -> Path:
    """Run a training, from its last checkpoint where there is one.

    Args:
        workspace: of the study.
        loop: what each worker runs.
        loop_config: its argument.
        name: the same name goes on from the last checkpoint.
        what: is trained, for people.
        callbacks: of Ray Train.

    Returns:
        The folder of the last checkpoint.

    Raises:
        FloatingPointError: a loss or a gradient was not finite, in each of several attempts.
        InputError: what a worker can't use, or the cluster has no room.
    """
    reserved = await_training(workspace.config.resources)
    trainer = TorchTrainer(
        loop,
        train_loop_config=loop_config,
        scaling_config=ScalingConfig(
            num_workers=reserved.processes,
            use_gpu=reserved.gpus > 0,
            resources_per_worker=reserved.bundle,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(workspace.work / "train"),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=RETRIES, controller_failure_limit=1),
            callbacks=[*callbacks, _Failures(what, partial(log_line, workspace.root))],
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        for kind in (FloatingPointError, InputError):
            reason = raised(error, kind)
            if reason is not None:
                raise kind(reason) from error
        raise
    if result.checkpoint is None:
        raise RuntimeError(f"the training of {what} left no checkpoint")
    return Path(result.checkpoint.path)


def raised(error: TrainingFailedError, kind: type[Exception]) -> str | None:
    """What a worker said as it raised such an error; None where it failed of something else."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        # Ray hands on a worker's traceback as text; its last line names the exception.
        last = str(failure).strip().rpartition("\n")[2]
        name, _, reason = last.partition(": ")
        if name.rpartition(".")[2] == kind.__name__:
            return reason
    return None
