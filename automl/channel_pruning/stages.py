"""The stages of a pruning study, each from files to files."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from automl.base_study import Stages
from automl.channel_pruning import measure
from automl.channel_pruning.designs import refine_design, search_designs
from automl.channel_pruning.front import front_hypervolume, front_rows, hypervolume_history
from automl.channel_pruning.images import write_images
from automl.channel_pruning.ledger import DESIGNS, FRONT, SCHEMA
from automl.channel_pruning.report import write_report
from automl.channel_pruning.tracking import PruningTracking
from automl.channel_pruning.tuning import tune_front
from automl.channel_pruning.workspace import PruningWorkspace, weights_key
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
from automl.trial_reports import trial_note, trial_share
from search_spaces.errors import InputError
from search_spaces.pruner_design import PrunerDesign
from trainables.channel_pruning.checkpoints import STATE, WEIGHTS


def prepare_data(workspace: PruningWorkspace, share: StageProgress) -> None:
    """Bring the data set's splits into the output directory."""
    try:
        splits = workspace.source()
        total = sum(map(len, splits.values()))
        for done in write_images(splits, workspace.config.image_size, workspace.data):
            share.update(done, total, f"picture {done}/{total}")
    except InputError:
        shutil.rmtree(workspace.data, ignore_errors=True)
        release_output(workspace)
        raise


def measure_parent(workspace: PruningWorkspace, share: StageProgress) -> None:
    """Measure the unpruned network."""
    parent: dict[str, Any] = {}
    for found in run_task(measure.measure_parent, workspace.config.resources, workspace):
        parent |= found
        share.update(len(parent), len(parent) + 1, "the unpruned network")
    write_json(parent, workspace.root / "parent.json")


def try_designs(workspace: PruningWorkspace, share: StageProgress) -> None:
    """The outer search."""
    designs, resources = workspace.config.designs, workspace.config.resources
    delivery = tracking_delivery(workspace)
    concurrent = room_for_designs(resources, designs.concurrent, share)

    def watch(number: int, report: dict[str, Any]) -> None:
        note = f"design {number + 1}/{designs.trials}, {trial_note(report, 'budget')}"
        share.update(number + trial_share(report), designs.trials, note)
        log_trial(delivery, report)

    records = search_designs(workspace, concurrent, watch)
    distinct = {record["design"]: record for record in records}
    write_rows(distinct.values(), workspace.root / "designs.parquet", DESIGNS)


def tracking_delivery(workspace: PruningWorkspace) -> Delivery[PruningTracking]:
    """Brings to MLflow what there is to log of a study."""
    config, root = workspace.config, workspace.root
    return Delivery(config.tracking, root, lambda: PruningTracking(config, root))


def best_design(workspace: PruningWorkspace) -> PrunerDesign:
    """The design of the highest hypervolume; of equal ones the one that was tried first."""
    records = read_rows(workspace.root / "designs.parquet")
    return PrunerDesign.from_dict(best_records(records, 1)[0])


def final_weights(workspace: PruningWorkspace) -> str:
    """The ledger's name of the final pruner."""
    return weights_key(best_design(workspace), workspace.config.final.steps)


def refine_best(workspace: PruningWorkspace, share: StageProgress) -> None:
    """Train the best design on, search it again, and put the ledger's parts together."""
    delivery = tracking_delivery(workspace)

    def watch(number: int, report: dict[str, Any]) -> None:
        share.update(trial_share(report), 1, trial_note(report, "budget"))
        log_trial(delivery, report)

    record = refine_design(workspace, best_design(workspace), watch)
    keep_checkpoint(workspace, record, (WEIGHTS, STATE), workspace.root / "hypernetwork")
    join_ledger(workspace, final_weights(workspace), SCHEMA, "network", share)


def measure_front(workspace: PruningWorkspace, share: StageProgress) -> None:
    """Fine-tune the final front whole, measure it on val, and what is left of it once on test."""
    ledger, parent_macs = workspace.root / LEDGER, workspace.parent_macs
    rows, weights = read_rows(ledger), final_weights(workspace)
    final = workspace.config.final.tuning_steps
    searched = [row for row in rows if row["weights"] == weights and row["tuning_steps"] != final]
    front = front_rows(searched, parent_macs)
    total = len(front)

    def watch(number: int, report: dict[str, Any]) -> None:
        step = report.get("step", final)
        note = f"network {number + 1}/{total}, fine-tuning step {step}/{final}"
        share.update(number + step / final, total + 1, note)

    tuned = tune_front(workspace, front, watch)

    def measured(split: str, task: Callable[..., Iterator[Row]], wanted: list[Any]) -> list[Row]:
        """The rows of fine-tuned networks on a split; those that the ledger lacks are measured."""
        own = {
            row["network"]: row
            for row in rows
            if row["tuning_steps"] == final and row["split"] == split
        }
        todo = [pair for pair in wanted if pair[0]["network"] not in own]
        for row in run_task(task, workspace.config.resources, workspace, todo) if todo else ():
            own[row["network"]] = row
            rows.append(row)
            write_rows(rows, ledger, SCHEMA)
        return [own[row["network"]] for row, _ in wanted]

    on_val = front_rows(measured("val", measure.measure_on_val, tuned), parent_macs)
    checkpoints = {row["network"]: checkpoint for row, checkpoint in tuned}
    left = [(row, checkpoints[row["network"]]) for row in on_val]
    on_test = measured("test", measure.write_networks, left)
    keys = [row["network"] for row in on_val]
    resources = workspace.config.resources
    ((whole, *each),) = run_task(measure.measure_latencies, resources, workspace, keys)
    table = [
        {
            **test,
            "accuracy_val": val["accuracy_val"],
            "latency_ms": ms,
            "parent_latency_ms": whole,
            "onnx": f"networks/{val['network']}/{measure.ONNX}",
        }
        for val, test, ms in zip(on_val, on_test, each, strict=True)
    ]
    write_rows(table, workspace.root / "front.parquet", FRONT)


def report(workspace: PruningWorkspace, share: StageProgress) -> None:
    """Log the study to MLflow and write the page."""
    delivery, calls = tracking_delivery(workspace), logging_calls(workspace)
    finish_study(workspace, partial(write_report, workspace), delivery, calls, share)


def logging_calls(workspace: PruningWorkspace) -> Iterator[Callable[[PruningTracking], None]]:
    """All that MLflow is told of a study that has its front, from its files; again is no harm."""
    root, parent = workspace.root, workspace.read_parent()
    front = read_rows(root / "front.parquet")
    for path in sorted((workspace.work / "designs").glob("*.json")):  # with the final one
        record = json.loads(path.read_text())
        yield partial(PruningTracking.log_design, record=record)
    tuned = workspace.config.final.tuning_steps
    rows = read_rows(root / LEDGER)
    searched = [row for row in rows if row["tuning_steps"] != tuned]
    history = hypervolume_history(searched, parent["macs"])
    yield partial(PruningTracking.log_growth, values=history)
    for row in front:
        folder = workspace.network_folder(row["network"])
        yield partial(PruningTracking.log_network, row=row, parent=parent, folder=folder)
    yield partial(
        PruningTracking.log_study,
        front=front,
        parent=parent,
        hypervolume=front_hypervolume(front, parent["macs"]),
        report=root / "report.html",
    )


STAGES: Stages[PruningWorkspace] = {
    "data": (prepare_data, "data/pictures.parquet"),
    "network": (measure_parent, "parent.json"),
    "designs": (try_designs, "designs.parquet"),
    "final": (refine_best, LEDGER),
    "front": (measure_front, "front.parquet"),
    "report": (report, "report.html"),
}
"""In order: what runs, and the file that it writes last."""
START_COST = 3000
"""Of the processes that a training and a search start, in the unit of `stage_costs`."""


def stage_costs(workspace: PruningWorkspace) -> dict[str, float]:
    """What each stage costs, roughly, in forward passes of the network on one picture."""
    config = workspace.config
    designs, final = config.designs, config.final
    mask_step, tuning_step = 3.5 * config.masks.batch_size, 2.0 * config.tuning.batch_size
    evaluation = 2000 + tuning_step * config.search.tuning_steps
    search = START_COST + mask_step * designs.steps + evaluation * designs.evaluations
    more = mask_step * (final.steps - designs.steps)
    return {
        "data": 1000,
        "network": 2000,
        "designs": designs.trials * search,
        "final": START_COST + more + evaluation * final.evaluations,
        "front": 3 * (START_COST + tuning_step * final.tuning_steps),
        "report": 500,
    }
