"""Searchers by name; another one is named by the file or the module that defines it."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

from automl.searchers.protocol import MakeSearcher
from search_spaces.errors import InputError
from trainables.own_code import file_module

SEARCHERS: Mapping[str, str] = {
    "hyperopt": "automl.searchers.hyperopt:hyperopt_search",
    "nsga2": "automl.searchers.optuna:nsga2",
    "tpe": "automl.searchers.optuna:tpe",
    "random": "automl.searchers.random:RandomSearch",
}
"""Where each one's function is. What it imports is only imported where it is used."""


def find_searcher(name: str) -> MakeSearcher:
    """The function that makes a searcher.

    Args:
        name: of `SEARCHERS`, or `FILE.py:NAME`, or `package.module:NAME`.

    Raises:
        InputError: the name is unknown, or there is no such file, module or function.
    """
    place, _, function = SEARCHERS.get(name, name).rpartition(":")
    if not place or not function:
        raise InputError(
            f"search.searcher: {name!r} is unknown; choose from {', '.join(SEARCHERS)}, or name a "
            "function of your own as FILE.py:NAME or package.module:NAME"
        )
    own = place.endswith(".py")
    module = file_module(Path(place), "search.searcher") if own else _imported(place)
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"search.searcher: {place} defines no function {function!r}")
    return cast(MakeSearcher, found)


def _imported(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):  # and not something that it imports
            raise InputError(
                f"search.searcher: there is no module {module}; give FILE.py:NAME or "
                "package.module:NAME"
            ) from error
        raise
