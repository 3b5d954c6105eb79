"""Ray Train around the sandwich training of one design's supernet."""

from collections.abc import Callable
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
from ray.train.torch import TorchTrainer, get_device

from automl.failures import reason
from automl.placement import await_training
from automl.study_log import log_line
from automl.workspace import Workspace
from search_spaces.design import Design
from search_spaces.errors import InputError
from trainables.supernet import sound_checkpoint, train_supernet

RETRIES = 2
"""How many times a training that failed goes on from its last checkpoint."""


class _Failures(ray.train.UserCallback):
    """Says of each failure of a training what it was.

    Args:
        design: whose training.
        say: what to do with a line.
    """

    def __init__(self, design: Design, say: Callable[[str], None]) -> None:
        self._design, self._say = design, say
        self._count = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self._count += 1
        then = "it goes on from its last checkpoint" if self._count <= RETRIES else "it ends"
        failed = [f"process {rank}: {reason(e)}" for rank, e in worker_exceptions.items()]
        self._say(f"the training of design {self._design.key} failed, {'; '.join(failed)}; {then}")


def train_loop_per_worker(config: dict[str, Any]) -> None:
    """What each Train worker runs: the training up to `config["steps"]`, with Ray's checkpoints."""
    workspace: Workspace = config["workspace"]
    design: Design = config["design"]
    study = workspace.config
    context = ray.train.get_context()
    newest = ray.train.get_checkpoint()
    say = partial(log_line, workspace.root)
    checkpoint = sound_checkpoint(Path(newest.path), say) if newest else None
    if newest and not checkpoint:
        say(f"no checkpoint of design {design.key} is left: its training starts anew")

    def report(metrics: dict[str, Any], folder: Path | None) -> None:
        kept = Checkpoint.from_directory(folder) if folder else None
        ray.train.report({**config["constants"], **metrics}, checkpoint=kept)

    train_supernet(
        workspace.prioritised(design.metric).to(get_device()),
        workspace.space(design),
        workspace.pictures("train"),
        study.training,
        steps=config["steps"],
        horizon=study.final.steps,
        prompts=study.prompts,
        seed=study.seed,
        checkpoint=checkpoint,
        report=report,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
    )


def train_design(
    workspace: Workspace,
    design: Design,
    steps: int,
    callbacks: list[ray.train.UserCallback],
    constants: dict[str, Any],
) -> Path:
    """Train a design's supernet up to `steps`, from its last checkpoint where there is one.

    Args:
        workspace: of the study.
        design: what space is trained.
        steps: counted from the start of the design's training.
        callbacks: of Ray Train.
        constants: reported along with each step's metrics.

    Returns:
        The folder of the last checkpoint.

    Raises:
        FloatingPointError: a loss or a gradient was not finite, in each of several attempts.
        InputError: what a worker can't use, or the cluster has no room.
    """
    reserved = await_training(workspace.config.resources)
    trainer = TorchTrainer(
        train_loop_per_worker,
        train_loop_config={
            "workspace": workspace,
            "design": design,
            "steps": steps,
            "constants": constants,
        },
        scaling_config=ScalingConfig(
            num_workers=reserved.processes,
            use_gpu=reserved.gpus > 0,
            resources_per_worker=reserved.bundle,
        ),
        run_config=RunConfig(
            name=design.key,  # the same name goes on from the last checkpoint
            storage_path=str(workspace.work / "train"),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=RETRIES, controller_failure_limit=1),
            callbacks=[*callbacks, _Failures(design, partial(log_line, workspace.root))],
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
        raise RuntimeError(f"the training of design {design.key} left no checkpoint")
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
