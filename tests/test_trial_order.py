"""Evaluators that start slowly, beside one that is quick, on Ray."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.search.searcher import Searcher

from automl.trial_order import NewestFirst


class Numbers(Searcher):
    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"x": 0}

    def on_trial_complete(self, trial_id: str, *arguments: Any, **more: Any) -> None:
        pass


def evaluator() -> type[tune.Trainable]:
    """Local, so that it travels whole: Ray's processes do not find the tests."""

    class Evaluator(tune.Trainable):
        def setup(self, config: dict[str, Any], folder: Path) -> None:
            try:
                (folder / "first").touch(exist_ok=False)
            except FileExistsError:
                time.sleep(3)

        def step(self) -> dict[str, Any]:
            time.sleep(0.2)
            return {"pid": os.getpid(), "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

    return Evaluator


class UntilBoth(tune.Stopper):
    def __init__(self) -> None:
        self.seen = set[int]()
        self.end = time.monotonic() + 100

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.seen.add(result["pid"])
        return False

    def stop_all(self) -> bool:
        return len(self.seen) == 2 or time.monotonic() > self.end


def test_a_process_that_starts_slowly_gets_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        until = UntilBoth()
        trainable = tune.with_parameters(evaluator(), folder=tmp_path)
        tune.Tuner(
            tune.with_resources(trainable, {"CPU": 1}),
            tune_config=tune.TuneConfig(
                search_alg=Numbers(metric="pid", mode="max"),
                scheduler=NewestFirst(),
                num_samples=-1,
                max_concurrent_trials=2,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=str(tmp_path / "tune"),
                stop=until,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    finally:
        ray.shutdown()
    assert len(until.seen) == 2
