"""Calls to MLflow that outlast a server that is away for a while."""

import os
import time
from collections import deque
from collections.abc import Callable

import requests
from mlflow.exceptions import MlflowException

from automl.config import StudyConfig
from automl.runs import tracking_uri
from automl.study_log import log_line
from automl.tracking import Tracking
from automl.workspace import Workspace
from search_spaces.addresses import shown
from search_spaces.errors import InputError

RETRY_S = 10.0
"""After so many seconds a server that was away is tried again."""
GONE = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}
"""What MLflow's client makes of a server that does not answer, or not for now."""
SERVERS = ("http://", "https://")
"""What the URI of a server begins with."""
Call = Callable[[Tracking], None]


class Delivery:
    """Makes calls in order; while MLflow's server is away they wait here, and the study goes on.

    What still waits when a stage ends is left: the last stage logs everything once more, from the
    study's files, and waits for the server.

    Args:
        workspace: of the study.
    """

    def __init__(self, workspace: Workspace) -> None:
        # MLflow's own patience is minutes, in which the study would stand still.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        self._workspace = workspace
        self._tracking: Tracking | None = None
        self._waiting: deque[Call] = deque()
        self._next_try = 0.0
        self._away = False

    def send(self, call: Call) -> None:
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
                    self._tracking = Tracking(self._workspace.config, self._workspace.root)
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

    @property
    def _uri(self) -> str:
        return tracking_uri(self._workspace.config.tracking, self._workspace.root)

    def _say(self, text: str) -> None:
        log_line(self._workspace.root, f"MLflow at {shown(self._uri)} {text}")


def is_away(error: Exception, uri: str) -> bool:
    """Whether a server did not answer; what fails in a file or a database fails for good."""
    if not uri.startswith(SERVERS):
        return False
    return isinstance(error, requests.RequestException) or (
        isinstance(error, MlflowException) and error.error_code in GONE
    )


def check_server(config: StudyConfig) -> None:
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
