"""Python files of the user's that a configuration names."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

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
