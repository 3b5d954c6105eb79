"""Calls to MLflow that outlast a server that is away for a while."""

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import requests
from mlflow.exceptions import MlflowException

from automl.base_config import BaseConfig, TrackingConfig
from automl.runs import tracking_uri
from automl.study_log import log_line
from search_spaces.addresses import shown
from search_spaces.errors import InputError

RETRY_S = 10.0
"""After so many seconds a server that was away is tried again."""
GONE = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}
"""What MLflow's client makes of a server that does not answer, or not for now."""
SERVERS = ("http://", "https://")
"""What the URI of a server begins with."""
T = TypeVar("T")


class Delivery(Generic[T]):
    """Makes calls in order; while MLflow's server is away they wait here, and the study goes on.

    What still waits when a stage ends is left: the last stage logs everything once more, from the
    study's files, and waits for the server.

    Args:
        config: where MLflow keeps its runs.
        root: the study's output directory.
        connect: makes what calls are made on; it may find the server away as well.
    """

    def __init__(self, config: TrackingConfig, root: Path, connect: Callable[[], T]) -> None:
        # MLflow's own patience is minutes, in which the study would stand still.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        self._root, self._connect = root, connect
        self._uri = tracking_uri(config, root)
        self._tracking: T | None = None
        self._waiting: deque[Callable[[T], None]] = deque()
        self._next_try = 0.0
        self._away = False

    def send(self, call: Callable[[T], None]) -> None:
        """Make a call now if the server answers, else later."""
        self._waiting.append(call)
        if time.monotonic() >= self._next_try:
            self._deliver()

    def flush(self, patience_s: float) -> bool:
        """Wait until all calls are made, but not longer than so many seconds; whether they are."""
        end = time.monotonic() + patience_s
        while self._waiting:
            self._deliver()
            left = end - time.monotonic()
            if not self._waiting or left <= 0:
                break
            time.sleep(min(RETRY_S, left))
        return not self._waiting

    def _deliver(self) -> None:
        while self._waiting:
            try:
                if self._tracking is None:
                    self._tracking = self._connect()
                self._waiting[0](self._tracking)
            except (MlflowException, requests.RequestException) as error:
                if not is_away(error, self._uri):
                    raise
                self._next_try = time.monotonic() + RETRY_S
                if not self._away:
                    self._say("does not answer; what is to be logged waits for it")
                self._away = True
                return
            self._waiting.popleft()
        if self._away:
            self._say("answers again; all that waited is logged")
            self._away = False

    def _say(self, text: str) -> None:
        log_line(self._root, f"MLflow at {shown(self._uri)} {text}")


def is_away(error: Exception, uri: str) -> bool:
    """Whether a server did not answer; what fails in a file or a database fails for good."""
    if not uri.startswith(SERVERS):
        return False
    return isinstance(error, requests.RequestException) or (
        isinstance(error, MlflowException) and error.error_code in GONE
    )


def check_server(config: BaseConfig) -> None:
    """Refuse to begin with an MLflow server that does not answer.

    Raises:
        InputError: it does not.
    """
    uri = config.tracking.uri or ""
    if not uri.startswith(SERVERS):
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=10)
    except requests.RequestException:
        raise InputError(
            f"tracking.uri: no MLflow server answers at {shown(uri)}; start it, or leave "
            "tracking.uri out"
        ) from None  # what is behind it may name the password
