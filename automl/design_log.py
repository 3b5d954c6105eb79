"""MLflow told of what the trials of designs report; apart from the trials, which need no MLflow."""

from typing import Any, Protocol, TypeVar

from automl.delivery import Delivery


class DesignLog(Protocol):
    """Logs designs; see `automl.tracking.Tracking`."""

    def log_search(self, weights: str, curve: list[tuple[int, dict[str, float]]]) -> None:
        """Log how far the search of a design is."""

    def log_design(self, record: dict[str, Any]) -> None:
        """Log a design that was tried."""


L = TypeVar("L", bound=DesignLog)


def log_trial(delivery: Delivery[L], report: dict[str, Any]) -> None:
    """Log to MLflow what a design's trial reports, while it searches and when it is done."""
    if report["phase"] == "search":
        weights, curve = report["weights"], report["curve"]
        delivery.send(lambda tracking: tracking.log_search(weights, curve))
    if "record" in report:
        record = report["record"]
        delivery.send(lambda tracking: tracking.log_design(record))
