"""The stages of a search over plans, each from files to files."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from automl.base_study import Stages
from automl.cluster import run_task
from automl.convolution.report import write_report
from automl.convolution.rows import (
    FRONT,
    SCHEMA,
    front_rows,
    history,
    plan_of,
    points,
    shape_of,
    state,
)
from automl.convolution.search import measure_fronts, search_plans
from automl.convolution.site import Site, find_site
from automl.convolution.tracking import ConvolutionTracking
from automl.convolution.workspace import ConvolutionWorkspace
from automl.delivery import Delivery
from automl.files import write_json, written_whole
from automl.finishing import finish_study
from automl.ledger import Row, read_rows, write_rows
from automl.output import release_output
from automl.progress import StageProgress
from search_spaces.conv_plan import ConvPlan
from search_spaces.errors import InputError
from trainables.convolution.tuned import TunedLayer, TunedPlan, TunedTable

SITE, EVALUATIONS, FRONT_TABLE, TUNED = (
    "site.json",
    "evaluations.parquet",
    "front.parquet",
    "tuned.json",
)
START_COST = 20
"""Of the processes that a convolution's search starts, in evaluations."""


def search(workspace: ConvolutionWorkspace, share: StageProgress) -> None:
    """The outer loop: the plans of each convolution are searched, one after the other."""
    site = _settle(workspace)
    if site.note:
        share.say(site.note)
    config, delivery = workspace.config, tracking_delivery(workspace)
    total, each, rows = len(config.names), config.search.evaluations + 1, []

    for number, layer in enumerate(config.names):

        def tell(found: list[Row], layer: str = layer, number: int = number) -> None:
            now = state(found)
            note = f"{layer}, plan {len(found)}/{each}"
            if now:
                note += f", front of {now['front_size']:.0f}, hypervolume {now['hypervolume']:.3f}"
                point = [(len(found), now)]
                delivery.send(lambda tracking: tracking.log_search(layer, point))
            share.update(number + len(found) / each, total, note)

        rows += search_plans(workspace, layer, site, tell)
    failed = [row for row in rows if row["failure"]]
    if failed:
        share.say(
            f"{len(failed)} plans could not be measured, {failed[-1]['plan']} of "
            f"{failed[-1]['layer']}: {failed[-1]['failure']}; {EVALUATIONS} has them all"
        )
    write_rows(rows, workspace.root / EVALUATIONS, SCHEMA)


def _settle(workspace: ConvolutionWorkspace) -> Site:
    """Find where plans are measured, and that each convolution has some there."""
    site: Site
    try:
        (site,) = run_task(find_site, workspace.config.resources, workspace.config)
        for layer in workspace.config.names:
            workspace.space(layer, site)
    except InputError:
        if not workspace.work.exists():
            release_output(workspace)
        raise
    write_json(site.to_dict(), workspace.root / SITE)
    return site


def read_site(workspace: ConvolutionWorkspace) -> Site:
    """Where plans were measured."""
    return Site(**json.loads((workspace.root / SITE).read_text()))


def measure_front(workspace: ConvolutionWorkspace, share: StageProgress) -> None:
    """Measure each front once more, in turn with the baselines, and write the tuned table."""
    site, names = read_site(workspace), workspace.config.names
    rows = read_rows(workspace.root / EVALUATIONS)
    tried: dict[str, list[ConvPlan]] = {}
    for layer in names:
        own = [row for row in rows if row["layer"] == layer]
        good = {row["plan"] for row in own if not row["failure"]}
        baselines = [p for p in workspace.baselines(layer, site) if p.key in good]
        tried[layer] = list(dict.fromkeys([*baselines, *map(plan_of, front_rows(own))]))
    table: list[Row] = []
    measured = run_task(measure_fronts, workspace.config.resources, workspace, site, tried)
    for number, found in enumerate(measured, start=1):
        default = workspace.baselines(found[0]["layer"], site)[-1].key
        table += compared(found, default)
        share.update(number, len(names), f"{found[0]['layer']}, {len(found)} plans in turn")
    write_rows(table, workspace.root / FRONT_TABLE, FRONT)
    with written_whole(workspace.root / TUNED) as path:
        tuned_table(table).save(path)


def compared(rows: list[Row], default: str) -> list[Row]:
    """Rows of `front.parquet`: plans of one convolution beside PyTorch's own.

    Args:
        rows: of plans that were measured in turn.
        default: the key of the plan that nobody tuned.
    """
    front = {row["plan"] for row in front_rows(rows)}
    return [
        {
            **row,
            "is_default": row["plan"] == default,
            "on_front": row["plan"] in front,
            "speed": speed,
            "memory_share": 1 / less,
        }
        for row, (speed, less) in zip(rows, points(rows), strict=True)
    ]


def tuned_table(rows: list[Row]) -> TunedTable:
    """The fronts of `front.parquet` as what `conv2d` takes."""
    layers = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        own = [row for row in rows if row["layer"] == layer and row["on_front"]]
        plans = [
            TunedPlan(plan=plan_of(row), latency_ms=row["latency_ms"], peak_bytes=row["peak_bytes"])
            for row in sorted(own, key=lambda row: row["latency_ms"])
        ]
        layers.append(
            TunedLayer(
                name=layer,
                shape=shape_of(own[0]),
                device=own[0]["device"],
                dtype=own[0]["dtype"],
                plans=tuple(plans),
            )
        )
    return TunedTable(layers=tuple(layers))


def report(workspace: ConvolutionWorkspace, share: StageProgress) -> None:
    """Log the study to MLflow and write the page."""
    delivery, calls = tracking_delivery(workspace), logging_calls(workspace)
    finish_study(workspace, partial(write_report, workspace), delivery, calls, share)


def tracking_delivery(workspace: ConvolutionWorkspace) -> Delivery[ConvolutionTracking]:
    """Brings to MLflow what there is to log of a study."""
    config, root = workspace.config, workspace.root
    return Delivery(config.tracking, root, lambda: ConvolutionTracking(config, root))


def logging_calls(
    workspace: ConvolutionWorkspace,
) -> Iterator[Callable[[ConvolutionTracking], None]]:
    """All that MLflow is told of a study that has its front, from its files; again is no harm."""
    root = workspace.root
    front, rows = read_rows(root / FRONT_TABLE), read_rows(root / EVALUATIONS)
    for layer in workspace.config.names:
        own: dict[str, Any] = {
            "curve": history([row for row in rows if row["layer"] == layer]),
            "front": [row for row in front if row["layer"] == layer],
        }
        yield partial(ConvolutionTracking.log_layer, layer=layer, **own)
    yield partial(ConvolutionTracking.log_study, front=front, tuned=root / TUNED)


STAGES: Stages[ConvolutionWorkspace] = {
    "search": (search, EVALUATIONS),
    "front": (measure_front, TUNED),
    "report": (report, "report.html"),
}
"""In order: what runs, and the file that it writes last."""


def stage_costs(workspace: ConvolutionWorkspace) -> dict[str, float]:
    """What each stage costs, roughly, in evaluations of a plan."""
    config = workspace.config
    each = START_COST + config.search.evaluations + 1
    return {"search": len(config.names) * each, "front": 10 * len(config.names), "report": 20}
