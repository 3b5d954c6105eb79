"""What can be searched: each family with a configuration and a study of its own."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from automl.base_study import BaseStudy
from automl.config_reading import read_values
from search_spaces.errors import InputError

FAMILIES: Mapping[str, str] = {
    "sam": "automl.sam.study:Study",
    "convolution": "automl.convolution.study:ConvolutionStudy",
    "channel_pruning": "automl.channel_pruning.study:PruningStudy",
}
"""By the configuration's `family`, where its study is. What that imports is only imported where it
is used."""
AnyStudy = BaseStudy[Any, Any]


def open_study(path: str | Path | None, overrides: list[str], output: Path | None) -> AnyStudy:
    """The study of a configuration.

    Args:
        path: a YAML file; None: the overrides are all there is.
        overrides: `KEY=VALUE`.
        output: its directory; None: `runs/NAME` of the file.

    Raises:
        InputError: the configuration can't be used, or the directory is another's.
    """
    values, where = read_values(path, overrides)
    kind = study_class(values, where)
    folder = output or Path("runs") / Path(path or "study").stem
    return kind(kind.check(values, where), folder)


def study_class(values: Mapping[str, Any], where: str) -> type[AnyStudy]:
    """The study of a configuration's family.

    Raises:
        InputError: there is no such family.
    """
    name = values.get("family", "sam")
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"{where}: family: {name!r} is unknown; choose from {', '.join(FAMILIES)}")
    module, _, attribute = FAMILIES[name].partition(":")
    return cast(type[AnyStudy], getattr(import_module(module), attribute))
