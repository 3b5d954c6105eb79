"""Whose output directory it is: before anything runs."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from automl.base_config import BaseConfig
from automl.base_workspace import BaseWorkspace
from automl.config_file import yaml_text
from automl.config_reading import first_difference
from automl.failures import reason
from automl.files import write_text
from automl.study_log import is_logged, log_line
from search_spaces.errors import InputError

CONFIG = "config.yaml"
RUNNING = "running"
"""Names the process that runs the study; what is left of one that was killed, or that could not say
in the log how it ended, for want of room."""
ROOM = 2048
"""Bytes of that file, kept for how the process ended."""
ENDED = "was ended by"


C = TypeVar("C", bound=BaseConfig, covariant=True)


class Check(Protocol[C]):
    """Makes a family's configuration from its values; see `automl.sam.config.check_config`."""

    def __call__(self, values: dict[str, Any], where: str, own_code: bool = True) -> C:
        """The configuration; `own_code` is whether Python that it names is imported."""


def check_output(workspace: BaseWorkspace, check: Check[C]) -> None:
    """Refuse a directory that belongs to another configuration or to something else.

    Args:
        workspace: of the study.
        check: of the study's family.

    Raises:
        InputError: it does.
    """
    root, config = workspace.root, workspace.config
    path = root / CONFIG
    if not path.exists():
        if root.exists() and any(root.iterdir()):
            raise InputError(f"--output: {root} holds other files; give a new or empty directory")
        return
    theirs = read_config(root, check)
    if theirs.key != config.key:
        key, mine, other = first_difference(config, theirs)
        raise InputError(
            f"--output: {root} belongs to another configuration ({key} is {other} there, "
            f"{mine} here); give another directory, or {key}={other}"
        )


def read_config(root: Path, check: Check[C]) -> C:
    """The configuration that owns an output directory; code that it names is not run.

    Args:
        root: the directory.
        check: of the family that it should be of.

    Raises:
        InputError: it can't be used.
    """
    known, path = written_values(root)
    return check(known, path, own_code=False)


def written_values(root: Path) -> tuple[dict[str, Any], str]:
    """The values of the configuration that owns an output directory, and what errors call it.

    Raises:
        InputError: they can't be read.
    """
    path = root / CONFIG
    try:
        written = yaml.safe_load(yaml_text(path)) or {}
        known = {str(name): value for name, value in written.items() if name != "hash"}
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    return known, str(path)


def claim_output(workspace: BaseWorkspace) -> None:
    """Write the resolved configuration with its hash: the directory is this study's."""
    path = workspace.root / CONFIG
    if path.exists():
        return
    workspace.root.mkdir(parents=True, exist_ok=True)
    shown = workspace.config.without_secrets()
    values = {**shown.model_dump(mode="json"), "hash": shown.key}
    write_text(yaml.safe_dump(values, sort_keys=False), path)


@contextmanager
def held_output(workspace: BaseWorkspace) -> Iterator[None]:
    """While a process runs a study in its directory, no other one does.

    The lock is the operating system's, on `config.yaml`: a process that is killed holds nothing.
    How the process ends is put into the study's log, by the next one where it could not itself.

    Raises:
        InputError: another process has it.
    """
    with (workspace.root / CONFIG).open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log_line(workspace.root, f"a second process, {_name()}, was refused: one runs already")
            raise InputError(
                f"--output: another process is running the study in {workspace.root}; wait for "
                "it, or give another directory"
            ) from None
        with _end_noted(workspace.root):
            yield


@contextmanager
def _end_noted(root: Path) -> Iterator[None]:
    running = root / RUNNING
    if running.exists():
        left = running.read_text().strip()
        silent = "ended without a word, by a kill or with its machine"
        how = "" if ENDED in left else f" {silent}"
        log_line(root, f"{left}{how}: the study goes on from what is on disk")
    write_text(_name().ljust(ROOM), running)
    noted = True
    try:
        yield
    except BaseException as error:
        if (root / CONFIG).exists():  # else the directory is free again
            how = f"{_name()} {ENDED} {type(error).__name__}: {reason(error)}"
            noted = is_logged(root, how)
            if not noted:
                with running.open("r+b") as file:  # in place: there is room for nothing else
                    file.write(how.encode()[:ROOM].ljust(ROOM))
        raise
    finally:
        if noted:
            running.unlink(missing_ok=True)


def _name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def release_output(workspace: BaseWorkspace) -> None:
    """Take the claim back, so that a mended configuration may use the directory."""
    (workspace.root / CONFIG).unlink()
