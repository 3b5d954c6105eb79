"""Logging to an MLflow server that goes away and comes back."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_server import free_port, mlflow_server

from automl import delivery
from automl.delivery import check_server
from automl.sam.config import check_config
from automl.sam.stages import tracking_delivery
from automl.sam.tracking import Tracking
from automl.sam.workspace import Workspace
from automl.study_log import LOG
from search_spaces import InputError


def workspace_of(tmp_path: Path, **tracking: Any) -> Workspace:
    root = tmp_path / "study"
    root.mkdir(exist_ok=True)
    return Workspace(check_config({"tracking": tracking}, "here"), root)


def logged(value: float) -> Callable[[Tracking], None]:
    return partial(Tracking.log_metrics, metrics={f"value_{value}": value})


def test_what_a_server_missed_is_delivered_in_order_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RETRY_S", 0.5)
    store, port = f"sqlite:///{tmp_path / 'served.db'}", free_port()
    workspace = workspace_of(tmp_path, uri=f"http://127.0.0.1:{port}")
    sent = tracking_delivery(workspace)
    with mlflow_server(store, tmp_path, port):
        check_server(workspace.config)
        sent.send(logged(1))
    start = time.monotonic()
    for value in (2, 3, 4):
        sent.send(logged(value))
    assert not sent.flush(1.0)
    assert time.monotonic() - start < 20  # the study is not held up
    with pytest.raises(InputError, match="no MLflow server answers at http"):
        check_server(workspace.config)
    with mlflow_server(store, tmp_path, port):
        assert sent.flush(60)
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("supersam")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics == {f"value_{value}": value for value in (1, 2, 3, 4)}
    log = (workspace.root / LOG).read_text()
    assert log.count("does not answer; what is to be logged waits") == 1
    assert log.count("answers again; all that waited is logged") == 1


def test_what_a_store_refuses_is_an_error_at_once(tmp_path: Path) -> None:
    def refused(tracking: Tracking) -> None:
        raise MlflowException("no such run")

    with pytest.raises(MlflowException, match="no such run"):
        tracking_delivery(workspace_of(tmp_path)).send(refused)


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, uri=f"http://me:secret@127.0.0.1:{free_port()}/mlflow")
    with pytest.raises(InputError, match=r"answers at http://127\.0\.0\.1:\d+/mlflow;") as caught:
        check_server(workspace.config)
    assert caught.value.__cause__ is None
    tracking_delivery(workspace).send(logged(1))
    log = (workspace.root / LOG).read_text()
    assert "does not answer" in log
    assert "secret" not in log
