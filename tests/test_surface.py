"""What others rely on: commands, configuration keys, the Python API.

`tests/surface.txt` is what it is meant to be. Where it changed on purpose:

    .venv/bin/python tests/test_surface.py
"""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

import automl
from automl.cli import app
from automl.config_reading import config_keys
from automl.families import FAMILIES, study_class
from automl.sam.config import StudyConfig

FROZEN = Path(__file__).parent / "surface.txt"
API = Path(__file__).parent.parent / "docs" / "api.md"


def commands() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):
        names = sorted("/".join(parameter.opts) for parameter in command.params)
        yield f"supersam {name}: {' '.join(names)}"


def keys(model: type[BaseModel] = StudyConfig) -> Iterator[str]:
    for name, field in config_keys(model).items():
        default = "needed" if field.is_required() else json.dumps(field.default, default=str)
        yield f"{name}: {default}"


def other_families() -> Iterator[tuple[str, type[BaseModel]]]:
    """Each family but SAM's, and its configuration."""
    for family in FAMILIES:
        if family != "sam":
            study: Any = study_class({"family": family}, "")
            yield family, get_args(study.__orig_bases__[0])[0]


def documented() -> Iterator[str]:
    """Every class and function that docs/api.md has, by its whole name."""
    text = API.read_text()
    module = ""
    for line in text.splitlines():
        if found := re.match(r"\.\. (?:currentmodule|automodule):: (\S+)", line):
            module = found[1]
        elif found := re.match(r"\s+:members: (\S.*)", line):
            inner = [name.strip() for name in found[1].split(",")]
            yield from (f"{module}.{name}" for name in inner if hasattr(at(module), name))
        elif found := re.match(r"\.\. auto(?:class|function|exception|data):: (\S+)", line):
            yield found[1] if "." in found[1] else f"{module}.{found[1]}"


def at(place: str) -> Any:
    """What stands there: a module, or something in one."""
    try:
        return import_module(place)
    except ModuleNotFoundError:
        above, _, name = place.rpartition(".")
        return getattr(at(above), name)


def signatures() -> Iterator[str]:
    for name in sorted(automl.__all__):
        yield f"automl.{name}"
    for place in sorted(set(documented())):
        found = at(place)
        if inspect.isfunction(found):
            yield f"{place}({names(found)})"
        elif inspect.isclass(found) and not issubclass(found, BaseModel):
            yield f"{place}({names(found)})"
            ours = [kind for kind in found.__mro__ if kind.__module__.startswith("automl")]
            members = {name: m for kind in reversed(ours) for name, m in vars(kind).items()}
            for name, member in sorted(members.items()):
                if not name.startswith("_"):
                    inside = getattr(member, "__func__", member)
                    called = f"({names(inside)})" if inspect.isfunction(inside) else ""
                    yield f"{place}.{name}{called}"


def names(function: Any) -> str:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return "..."
    return ", ".join(name for name in parameters if name not in ("self", "cls"))


def surface() -> str:
    parts = {
        "Commands": commands(),
        "Configuration": keys(),
        **{f"Configuration of {family}": keys(model) for family, model in other_families()},
        "Python": signatures(),
    }
    return "\n".join(f"# {name}\n" + "\n".join(lines) + "\n" for name, lines in parts.items())


def test_the_surface_is_what_it_is_meant_to_be() -> None:
    assert surface() == FROZEN.read_text()


def test_what_is_frozen_is_all_there() -> None:
    frozen = FROZEN.read_text()
    for name in (
        "supersam run:",
        "search.objective",
        "automl.Study\n",
        "automl.sam.study.Study.run(",
    ):
        assert name in frozen


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("supersam ev", ["evaluate"]),
        ("supersam run training.b", ["training.batch_size="]),
        ("supersam run --ou", ["--output"]),
    ],
)
def test_shells_complete_commands_options_and_keys(words: str, offered: list[str]) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("supersam")],
        env={
            **os.environ,
            "_SUPERSAM_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == offered


if __name__ == "__main__":
    FROZEN.write_text(surface())
