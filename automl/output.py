"""Whose output directory it is, and whether a study's inputs can be used: before anything runs."""

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from automl.config import PACKAGED_DATA, StudyConfig, check_config, first_difference
from automl.config_file import yaml_text
from automl.failures import reason
from automl.files import write_text
from automl.reach import check_reachable
from automl.study_log import log_line
from automl.workspace import Workspace
from search_spaces.errors import InputError
from trainables.data.pictures import Pictures
from trainables.data.prepare import is_prepared
from trainables.data.splits import SPLITS
from trainables.data.storage import Location
from trainables.sam.models import load_sam

CONFIG = "config.yaml"
RUNNING = "running"
"""Names the process that runs the study; what is left of one that was killed."""


def check_output(workspace: Workspace) -> None:
    """Refuse a directory that belongs to another configuration or to something else.

    Raises:
        InputError: it does.
    """
    root, config = workspace.root, workspace.config
    path = root / CONFIG
    if not path.exists():
        if root.exists() and any(root.iterdir()):
            raise InputError(f"--output: {root} holds other files; give a new or empty directory")
        return
    theirs = read_config(root)
    if theirs.key != config.key:
        key, mine, other = first_difference(config, theirs)
        raise InputError(
            f"--output: {root} belongs to another configuration ({key} is {other} there, "
            f"{mine} here); give another directory, or {key}={other}"
        )


def read_config(root: Path) -> StudyConfig:
    """The configuration that owns an output directory; code that it names is not run.

    Raises:
        InputError: it can't be used.
    """
    path = root / CONFIG
    try:
        written = yaml.safe_load(yaml_text(path)) or {}
        known = {str(name): value for name, value in written.items() if name != "hash"}
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    return check_config(known, str(path), own_code=False)


def claim_output(workspace: Workspace) -> None:
    """Write the resolved configuration with its hash: the directory is this study's."""
    path = workspace.root / CONFIG
    if path.exists():
        return
    workspace.root.mkdir(parents=True, exist_ok=True)
    shown = workspace.config.without_secrets()
    values = {**shown.model_dump(mode="json"), "hash": shown.key}
    write_text(yaml.safe_dump(values, sort_keys=False), path)


@contextmanager
def held_output(workspace: Workspace) -> Iterator[None]:
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
        log_line(
            root,
            f"{running.read_text()} ended without a word, by a kill or with its machine: the study "
            "goes on from what is on disk",
        )
    write_text(_name(), running)
    try:
        yield
    except BaseException as error:
        if (root / CONFIG).exists():  # else the directory is free again
            log_line(root, f"{_name()} was ended by {type(error).__name__}: {reason(error)}")
        raise
    finally:
        running.unlink(missing_ok=True)


def _name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def release_output(workspace: Workspace) -> None:
    """Take the claim back, so that a mended configuration may use the directory."""
    (workspace.root / CONFIG).unlink()


def data_source(config: StudyConfig) -> Location:
    """The data set that is asked for.

    Raises:
        InputError: there is none, it can't be reached, or its prepared splits can't be used.
    """
    source = Location.at(PACKAGED_DATA.get(config.data, config.data))
    try:
        if not (source.is_folder() or source.is_file()):
            raise InputError(
                f"data: {config.data} is neither a folder nor a data set that ships "
                f"({', '.join(PACKAGED_DATA)})"
            )
        if is_prepared(source):
            for split in SPLITS:
                Pictures(source / f"{split}.parquet")
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"data: {config.data} can't be reached: {reason}") from error
    return source


def check_inputs(workspace: Workspace, stages: Sequence[str]) -> None:
    """Refuse what can't work before anything is written.

    Args:
        workspace: of the study.
        stages: those that are still to run.

    Raises:
        InputError: the data set, the parent or a constraint can't be used.
    """
    config = workspace.config
    if "data" in stages:
        data_source(config)
    if "prioritise" in stages:
        check_reachable(workspace, None)
        load_sam(config.model, config.checkpoint_path, config.image_size)
