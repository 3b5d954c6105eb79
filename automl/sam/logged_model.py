"""A subnet as a model of MLflow: what it takes and gives, and what it needs."""

import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

import search_spaces
import trainables
from automl.runs import Runs, quoted
from automl.sam import serving

REQUIREMENTS = (
    "torch",
    "segment-anything",
    "safetensors",
    "pycocotools",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
)
"""What a logged model needs beside the code that travels with it."""
# MLflow's Array(double) takes neither whole numbers nor a table where some rows have a box and some
# a point; the model itself checks its prompts.
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.binary, "image"),
            ColSpec(AnyType(), "box", required=False),
            ColSpec(AnyType(), "point", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "mask"),
            ColSpec(DataType.long, "height"),
            ColSpec(DataType.long, "width"),
            ColSpec(DataType.double, "score"),
        ]
    ),
)


def log_model(runs: Runs, run_id: str, folder: Path, name: str) -> str:
    """Log a standalone subnet as the model of a run, and register it.

    Args:
        runs: of the study.
        run_id: the run.
        folder: of the standalone subnet.
        name: that it is registered under.

    Returns:
        Which version of that name it is.
    """
    mlflow.set_tracking_uri(runs.uri)
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        # The signature is given, so it need not be inferred from an example.
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=serving.__file__,
            artifacts={"subnet": str(folder)},
            code_paths=[_package(search_spaces), _package(trainables)],
            pip_requirements=requirements(),
            signature=SIGNATURE,
        )
    # By the client, which says nothing about it on the terminal.
    if not runs.client.search_registered_models(f"name = {quoted(name)}"):
        runs.client.create_registered_model(name)
    version = runs.client.create_model_version(
        name, logged.model_uri, run_id, model_id=logged.model_id
    )
    return str(version.version)


def requirements() -> list[str]:
    """What a logged model needs, in the versions that are installed.

    Without a local version such as `+cpu`: package indexes do not have those.
    """
    versions = {name: importlib.metadata.version(name) for name in REQUIREMENTS}
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]


def _package(module: Any) -> str:
    return str(Path(module.__file__).parent)
