"""Views of a study's runs that MLflow's pages open with: filter, columns, order and charts.

MLflow keeps a view as a tag of the experiment. One that has a name is offered under *Views*; any is
opened by a link.
"""

import json
import time
from collections.abc import Sequence
from typing import Any

PREFIX = "mlflow.sharedViewState."
STUDY, DESIGN, SUBNET = "study", "design", "subnet"
"""The kinds of runs: the values of their tag `nas.kind`."""
SUBNET_COLUMNS = {
    "depth": 60,
    "mlp_ratio_mean": 120,
    "heads_ratio_mean": 130,
    "encoder_params_m": 135,
    "encoder_macs_g": 115,
    "latency_ms": 90,
    "miou_val": 95,
    "miou_test": 90,
}
"""Metrics of a subnet's run, in the order of the table, and how wide they are."""
DESIGN_COLUMNS = {
    "hypervolume": 130,
    "front_size": 90,
    "best_miou_val": 110,
    "training_steps": 110,
    "subnets_evaluated": 140,
}
"""Metrics of a design's run, likewise."""
DESIGN_SETTINGS = {
    "expected_dropped": 130,
    "width_count": 100,
    "smallest_ratio": 110,
    "metric": 80,
    "temperature": 100,
}
"""Parameters of a design's run that the table shows, likewise."""
DEFAULT_SERVER = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers unless it is told otherwise."""
RUN_NAME = "attributes.`Run Name`"


def subnets_view(study_run: str | None = None, quality: str = "miou_val") -> dict[str, Any]:
    """The subnets in one table, best first, and what their charts show.

    Args:
        study_run: only those of this run; None: of all studies.
        quality: the metric that says which is best.
    """
    axes = ["depth", "mlp_ratio_mean", "encoder_macs_g", "latency_ms", quality]
    charts = [
        _chart("all", "PARALLEL", selectedParams=[], selectedMetrics=axes, showAllRuns=True),
        _scatter("pairs", "encoder_macs_g", quality),
        _scatter("pairs", "latency_ms", quality),
    ]
    widths = SUBNET_COLUMNS | ({} if quality in SUBNET_COLUMNS else {quality: 120})
    columns = {_column("metrics", name): width for name, width in widths.items()}
    columns[_column("tags", "subnet")] = 120
    if study_run is None:
        columns[_column("params", "study")] = 120
    sections = [
        _section("all", "Depth, MLP width, MACs, latency and quality", columns=1),
        _section("pairs", "Quality over costs", columns=2),
    ]
    wanted = f"tags.`nas.kind` = '{SUBNET}'"
    if study_run is not None:
        wanted += f" and tags.`mlflow.parentRunId` = '{study_run}'"
    return _view(wanted, quality, {RUN_NAME: 180, **columns}, charts, sections)


def designs_view() -> dict[str, Any]:
    """The designs in one table, that of the highest hypervolume first, and their charts."""
    charts = [
        _chart(
            "search",
            "LINE",
            metricKey="hypervolume",
            selectedMetricKeys=["hypervolume"],
            xAxisKey="step",
            lineSmoothness=0,
        ),
        _chart("search", "BAR", metricKey="hypervolume"),
        _chart(
            "settings",
            "PARALLEL",
            selectedParams=["expected_dropped", "width_count", "temperature"],
            selectedMetrics=["training_steps", "hypervolume"],
            showAllRuns=True,
        ),
    ]
    columns = {_column("metrics", name): width for name, width in DESIGN_COLUMNS.items()}
    columns |= {_column("params", name): width for name, width in DESIGN_SETTINGS.items()}
    columns[_column("params", "study")] = 120
    sections = [
        _section("search", "Hypervolume over subnets evaluated", columns=2),
        _section("settings", "Settings, training steps and hypervolume", columns=1),
    ]
    wanted = f"tags.`nas.kind` = '{DESIGN}'"
    return _view(wanted, "hypervolume", {RUN_NAME: 230, **columns}, charts, sections)


def named(name: str, view: dict[str, Any]) -> str:
    """A view as the value of its tag, under a name in MLflow's menu *Views*."""
    envelope = {"name": name, "createdAt": int(time.time() * 1000), "state": unnamed(view)}
    return json.dumps(envelope)


def unnamed(view: dict[str, Any]) -> str:
    """A view as the value of its tag, for a link alone."""
    return json.dumps(view, separators=(",", ":"))


def link(tracking_uri: str, experiment: str, key: str) -> str:
    """The page that opens a view.

    Args:
        tracking_uri: of the store; one that is no server is taken to be shown by `mlflow ui`.
        experiment: its id.
        key: the tag without its prefix.
    """
    server = tracking_uri if tracking_uri.startswith("http") else DEFAULT_SERVER
    page = f"{server.rstrip('/')}/#/experiments/{experiment}/runs"
    return f"{page}?workflowType=machine_learning&viewStateShareKey={key}"


def _view(
    wanted: str,
    order: str,
    columns: dict[str, int],
    charts: Sequence[dict[str, Any]],
    sections: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "searchFilter": wanted,
        "orderByKey": _column("metrics", order),
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": [name for name in columns if name != RUN_NAME],
        "columnOrder": list(columns),
        "columnWidths": columns,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [{**chart, "uuid": str(i)} for i, chart in enumerate(charts)],
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _section(key: str, title: str, columns: int) -> dict[str, Any]:
    return {"uuid": key, "name": title, "display": True, "isReordered": True, "columns": columns}


def _chart(section: str, kind: str, **settings: Any) -> dict[str, Any]:
    state = {"runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    return {"type": kind, "metricSectionId": section, **state, **settings}


def _scatter(section: str, x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return _chart(section, "SCATTER", **axes)
