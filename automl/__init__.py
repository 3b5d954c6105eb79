"""Who runs trials, on which machines, and what they found: the study and its command line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl.sam.config import load_config
    from automl.sam.study import Study, StudyResult

__all__ = ["Study", "StudyResult", "load_config"]
_PLACES = {"Study": "sam.study", "StudyResult": "sam.study", "load_config": "sam.config"}


def __getattr__(name: str) -> Any:
    """What is imported from here only where it is used: it brings Ray, MLflow and torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
