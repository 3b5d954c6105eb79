"""Searchers by name; another one is named by the file or the module that defines it."""

from collections.abc import Mapping
from typing import cast

from automl.searchers.protocol import MakeSearcher
from trainables.own_code import named_function

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
    made = named_function(SEARCHERS.get(name, name), "search.searcher", SEARCHERS)
    return cast(MakeSearcher, made)
