"""Python code of the user's that a configuration names."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from search_spaces.content_key import content_key
from search_spaces.errors import InputError


def file_module(file: Path, key: str) -> ModuleType:
    """The module of a file, imported once in a process.

    Args:
        file: of Python.
        key: of the configuration, named in errors.

    Raises:
        InputError: there is no such file.
    """
    path = file.expanduser().absolute()
    name = f"{path.stem}_{content_key(str(path))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"{key}: {file} does not exist; give the path of a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def named_function(name: str, key: str, known: Iterable[str]) -> Callable[..., Any]:
    """A function, or a class, by where it is defined.

    Args:
        name: `FILE.py:NAME`, or `package.module:NAME`.
        key: of the configuration, named in errors.
        known: what else the key takes, named in errors.

    Raises:
        InputError: it is neither, or there is no such file, module or function.
    """
    place, _, function = name.rpartition(":")
    if not place or not function:
        raise InputError(
            f"{key}: {name!r} is unknown; choose from {', '.join(known)}, or name a "
            "function of your own as FILE.py:NAME or package.module:NAME"
        )
    module = file_module(Path(place), key) if place.endswith(".py") else _imported(place, key)
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"{key}: {place} defines no function {function!r}")
    return found  # type: ignore[no-any-return]


def _imported(module: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):  # and not something that it imports
            raise InputError(
                f"{key}: there is no module {module}; give FILE.py:NAME or package.module:NAME"
            ) from error
        raise
