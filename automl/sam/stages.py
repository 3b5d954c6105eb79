"""The stages of a study, each from files to files; a stage whose last file is there is done."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from automl.base_study import Stages, is_done
from automl.charts import as_png
from automl.cluster import run_task
from automl.delivery import Delivery
from automl.design_log import log_trial
from automl.designed_stages import LEDGER, join_ledger, keep_checkpoint, room_for_designs
from automl.files import write_json
from automl.finishing import finish_study
from automl.halving import best_records
from automl.ledger import Row, read_rows, write_rows
from automl.output import release_output
from automl.progress import StageProgress
from automl.sam import measure
from automl.sam.charts import front_chart, hypervolume_chart
from automl.sam.design_trial import DESIGNS
from automl.sam.designs import refine_design, search_designs, searched_rungs, study_rungs
from automl.sam.front import balanced, front_hypervolume, front_rows
from automl.sam.gallery import SCHEMA as GALLERY
from automl.sam.ledger import SCHEMA
from automl.sam.preparing import bring_data
from automl.sam.reach import check_reachable
from automl.sam.report import write_report
from automl.sam.search import stopping_metrics
from automl.sam.tracking import Tracking
from automl.sam.workspace import Workspace
from automl.trial_reports import trial_note, trial_share
from search_spaces.design import Design
from search_spaces.errors import InputError
from trainables.data.storage import Location
from trainables.sam.objective import quality
from trainables.supernet import STATE, WEIGHTS

OF_AN_EVALUATION = {
    "split",
    "pictures",
    "stopped",
    "expected",
    "rung_mious",
    "object_ious",
    "seconds",
    "failure",
}
"""Columns of the ledger that say how a subnet was evaluated, not what it is."""
ON_TEST = ("miou_test", "metrics_test")
"""Columns that a subnet's row on test adds to that on val."""
FRONT = pa.schema(
    [
        *(field for field in SCHEMA if field.name not in OF_AN_EVALUATION),
        pa.field("onnx", pa.string()),
    ]
)
"""Columns of `front.parquet`: the ledger's, with val and test in one row."""


def prepare_data(workspace: Workspace, share: StageProgress) -> None:
    """Bring the data set's splits into the output directory."""
    try:
        bring_data(workspace.config, Location.at(workspace.data), share)
    except InputError:
        release_output(workspace)
        raise


def prioritise(workspace: Workspace, share: StageProgress) -> None:
    """Measure neurons and layers, then the parent itself."""
    resources = workspace.config.resources
    total = measure.prioritise_steps(workspace) + 2
    for done in run_task(measure.prioritise, resources, workspace):
        share.update(done, total, "scores and layer worth")
    check_reachable(workspace, workspace.worth())
    parent: dict[str, Any] = {}
    for row in run_task(measure.measure_parent, resources, workspace):
        parent |= row
        share.update(total - 1, total, "the parent itself")
    for name in ("split", "pictures", "objects", "seconds"):
        del parent[name]
    write_json(parent, workspace.root / "parent.json")


def try_designs(workspace: Workspace, share: StageProgress) -> None:
    """The outer search."""
    config = workspace.config
    rungs, costs, last = searched_rungs(config), rung_costs(workspace), len(study_rungs(config))
    delivery = tracking_delivery(workspace)
    concurrent = room_for_designs(config.resources, config.designs.concurrent, share)

    def watch(rung: int, number: int, report: dict[str, Any]) -> None:
        designs = rungs[rung].designs
        place = f"rung {rung + 1}/{last}, design {number + 1}/{designs}"
        done = sum(costs[:rung]) + costs[rung] * (number + trial_share(report)) / designs
        share.update(done, sum(costs[: len(rungs)]), f"{place}, {trial_note(report, 'subnet')}")
        log_trial(delivery, report)

    records = search_designs(workspace, concurrent, watch)
    distinct = {(record["design"], record["steps"]): record for record in records}
    write_rows(distinct.values(), workspace.root / "designs.parquet", DESIGNS)


def tracking_delivery(workspace: Workspace) -> Delivery[Tracking]:
    """Brings to MLflow what there is to log of a study."""
    config, root = workspace.config, workspace.root
    return Delivery(config.tracking, root, lambda: Tracking(config, root))


def best_design(workspace: Workspace) -> Design:
    """The design of the highest hypervolume on the last rung of the outer search.

    Of equal ones it is the one that was tried first.
    """
    records = read_rows(workspace.root / "designs.parquet")
    steps = max(record["steps"] for record in records)
    reached = [record for record in records if record["steps"] == steps]
    return Design.from_dict(best_records(reached, 1)[0])


def final_weights(workspace: Workspace) -> str:
    """The ledger's name of the final supernet."""
    return f"{best_design(workspace).key}@{workspace.config.final.steps}"


def find_evaluated(workspace: Workspace, key: str) -> Row | None:
    """The ledger's row of a subnet that was evaluated on the final supernet; None if none was."""
    if not is_done(workspace.root, STAGES, "final"):
        return None
    rows, weights = read_rows(workspace.root / LEDGER), final_weights(workspace)
    return next((row for row in rows if (row["subnet"], row["weights"]) == (key, weights)), None)


def refine_best(workspace: Workspace, share: StageProgress) -> None:
    """Train the best design on, search it again, and put the ledger's parts together."""
    design = best_design(workspace)
    delivery = tracking_delivery(workspace)

    def watch(rung: int, number: int, report: dict[str, Any]) -> None:
        share.update(
            trial_share(report), 1, f"rung {rung + 1}/{rung + 1}, {trial_note(report, 'subnet')}"
        )
        log_trial(delivery, report)

    record = refine_design(workspace, design, watch)
    workspace.choose_design(design)
    keep_checkpoint(workspace, record, (WEIGHTS, STATE), workspace.root / "supernet")
    rows = join_ledger(workspace, final_weights(workspace), SCHEMA, "subnet", share)
    share.say(stopping_note(stopping_metrics(_of_final(workspace, rows))))


def _of_final(workspace: Workspace, rows: list[Row]) -> list[Row]:
    """The rows of the final supernet on val."""
    weights = final_weights(workspace)
    return [row for row in rows if row["weights"] == weights and row["split"] == "val"]


def stopping_note(found: dict[str, float]) -> str:
    """What `stopping_metrics` found, in a line."""
    ranks = [f"{v:.2f}" for name, v in found.items() if name.startswith("rank_correlation")]
    ranked = f"; ranks after each part agree with those on all by {', '.join(ranks)}" * bool(ranks)
    return (
        f"{found['stopped']:.0%} of the subnets were stopped early, "
        f"{found['pictures_seen']:.0%} of their pictures were looked at{ranked}"
    )


def measure_front(workspace: Workspace, share: StageProgress) -> None:
    """Measure the final front on test, once, and write its subnets as models of their own."""
    ledger = workspace.root / LEDGER
    rows, weights = read_rows(ledger), final_weights(workspace)
    on_val = [row for row in rows if row["split"] == "val"]
    front = front_rows(workspace, [row for row in on_val if row["weights"] == weights])
    if not front:
        raise InputError(
            "constraints: no subnet that was tried keeps them; loosen them, or give "
            "final.evaluations more"
        )
    on_test = {row["subnet"]: row for row in rows if row["split"] == "test"}
    todo = [row for row in front if row["subnet"] not in on_test]
    arguments = (workspace, workspace.root / "supernet" / WEIGHTS, todo)
    measured = run_task(measure.measure_on_test, workspace.config.resources, *arguments)
    for done, row in enumerate(measured, start=1):
        on_test[row["subnet"]] = row
        write_rows([*on_val, *on_test.values()], ledger, SCHEMA)
        share.update(done, len(todo), f"test, subnet {done}/{len(todo)}")
    table = [
        {**row, **{name: on_test[row["subnet"]].get(name) for name in ON_TEST}} for row in front
    ]
    drawn = run_task(
        measure.draw_front_gallery,
        workspace.config.resources,
        workspace,
        workspace.root / "supernet" / WEIGHTS,
        balanced(workspace, table),
    )
    write_rows(drawn, workspace.root / "gallery.parquet", GALLERY)
    write_rows(table, workspace.root / "front.parquet", FRONT)


def report(workspace: Workspace, share: StageProgress) -> None:
    """Log the study to MLflow and write the page."""
    delivery, calls = tracking_delivery(workspace), logging_calls(workspace)
    finish_study(workspace, partial(write_report, workspace), delivery, calls, share)


def logging_calls(workspace: Workspace) -> Iterator[Callable[[Tracking], None]]:
    """All that MLflow is told of a study that has its front, from its files; again is no harm."""
    root = workspace.root
    front, parent = read_rows(root / "front.parquet"), read_parent(workspace)
    evaluated = read_rows(root / LEDGER)
    on_val = [row for row in evaluated if row["split"] == "val"]
    for path in sorted((workspace.work / "designs").glob("*.json")):  # with the final one
        yield partial(Tracking.log_design, record=json.loads(path.read_text()))
    macs, floor = parent["encoder_macs"], workspace.config.search.quality_floor
    yield partial(Tracking.log_history, rows=on_val, parent_macs=macs, floor=floor)
    found = stopping_metrics(_of_final(workspace, on_val))
    yield partial(Tracking.log_metrics, metrics=found)
    for row in front:
        folder = workspace.subnet_folder(row["subnet"])
        yield partial(Tracking.log_subnet, row=row, parent=parent, folder=folder)
    yield partial(Tracking.name_models, aliases=named_subnets(workspace, front))
    charts = {
        "front.png": front_chart(front, parent),
        "hypervolume.png": hypervolume_chart(on_val, parent, floor),
    }
    yield partial(
        Tracking.log_study,
        front=front,
        parent=parent,
        hypervolume=front_hypervolume(workspace, front),
        # MLflow's page shows them pixel by pixel.
        pictures={name: as_png(chart, scale=1) for name, chart in charts.items()},
    )


def named_subnets(workspace: Workspace, front: list[Row]) -> dict[str, str]:
    """The subnets of a front that models are named after: by alias the key of one.

    `best`, `balanced`, `smallest`, and for each cost that is constrained, under its name, the best
    that keeps its bounds.
    """
    names = {
        "balanced": balanced(workspace, front),
        "smallest": min(front, key=lambda row: row["encoder_params"]),
    }
    best = max(front, key=lambda row: quality(row, "val"))
    names |= dict.fromkeys(("best", *workspace.config.constraints), best)  # all keep all bounds
    return {alias: row["subnet"] for alias, row in names.items()}


def read_parent(workspace: Workspace) -> dict[str, Any]:
    """The parent's own figures."""
    parent: dict[str, Any] = json.loads((workspace.root / "parent.json").read_text())
    return parent


START_COST = 250
"""Of the processes that a training and a search start, in the unit of `stage_costs`."""
STAGES: Stages[Workspace] = {
    "data": (prepare_data, "data/test.parquet"),
    "prioritise": (prioritise, "parent.json"),
    "designs": (try_designs, "designs.parquet"),
    "final": (refine_best, LEDGER),
    "front": (measure_front, "front.parquet"),
    "report": (report, "report.html"),
}
"""In order: what runs, and the file that it writes last."""


def stage_costs(workspace: Workspace) -> dict[str, float]:
    """What each stage costs, roughly, in forward passes of the parent on one picture."""
    config = workspace.config
    rungs, searched = rung_costs(workspace), len(searched_rungs(config))
    return {
        "data": 10,
        "prioritise": 2 * workspace.encoder.depth * config.prioritise.worth_pictures
        + 3 * len(workspace.metrics) * config.prioritise.score_pictures,
        "designs": sum(rungs[:searched]),
        "final": sum(rungs[searched:]) or START_COST,
        "front": 10 * (config.evaluation.test_pictures or 64),
        "report": 300,
    }


def rung_costs(workspace: Workspace) -> list[float]:
    """What all designs of each rung cost together, in the unit of `stage_costs`."""
    config = workspace.config
    evaluation = 1.5 * (config.evaluation.val_pictures or 64)
    step = 2.5 * config.training.batch_size * (2 + config.training.n_random)
    costs, trained = [], 0
    for rung in study_rungs(config):
        training = (rung.budget.steps - trained) * step
        each = START_COST + training + rung.budget.evaluations * evaluation
        costs.append(rung.designs * each)
        trained = rung.budget.steps
    return costs
