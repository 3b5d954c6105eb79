"""The inner search: Ray Tune over the plans of one convolution."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from ray import tune

from automl.convolution.config import MeasureConfig
from automl.convolution.proposals import REPORTED, PlanProposals
from automl.convolution.rows import PLANS, is_pytorch, plan_row
from automl.convolution.site import Site, own_device
from automl.convolution.workspace import ConvolutionWorkspace
from automl.ledger import Ledger, Row
from automl.searchers.registry import find_searcher
from automl.study_log import log_line
from automl.trials import RETRIES, Recorder, SearchFailedError, run_trials
from search_spaces.conv_plan import ConvPlan
from search_spaces.errors import InputError
from trainables.clock import CpuTimeClock
from trainables.convolution.measure import Bench, Measured, WrongResultError, set_float32
from trainables.device_name import device_name


class PlanTrial(tune.Trainable):
    """Measures one plan a trial; the actor keeps pictures, weights and the right result."""

    def setup(
        self, config: dict[str, Any], workspace: ConvolutionWorkspace, layer: str, site: Site
    ) -> None:
        """Make what all trials share.

        Args:
            config: the first trial's plan.
            workspace: of the study.
            layer: the convolution's name.
            site: where plans are measured.

        Raises:
            InputError: this process is elsewhere.
        """
        self._settings = workspace.config.measure
        self._row = partial(
            plan_row,
            layer,
            workspace.config.shape(layer),
            device=site.device,
            dtype=workspace.config.dtype,
        )
        self._bench = open_bench(workspace, layer, site)

    def step(self) -> dict[str, Any]:
        """Measure the plan of the trial's configuration, once; a wrong result is a failure."""
        start, plan = time.perf_counter(), ConvPlan.from_dict(self.config)
        row: Row = self._row(plan=plan)
        try:
            (found,) = measure(self._bench, [plan], self._settings.repeats, self._settings)
            row |= asdict(found)
        except WrongResultError as error:
            row["failure"] = str(error)
        row["seconds"] = time.perf_counter() - start
        told = {name: row.get(name) for name in REPORTED}
        return {"row": row, **told, "quality": float("failure" not in row), "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next plan without a new process."""
        self.config = new_config
        return True


def open_bench(workspace: ConvolutionWorkspace, layer: str, site: Site) -> Bench:
    """What measures plans of a convolution in this process.

    Raises:
        InputError: the process is not where the study measures.
    """
    config, device = workspace.config, own_device()
    if device_name(device) != site.device:
        raise InputError(
            f"resources: this study measures on {site.device}, and an evaluator was started on "
            f"{device_name(device)}; figures of two devices can't be compared"
        )
    torch.set_num_threads(config.most_threads)
    set_float32("tf32" in config.choices.precision)
    return Bench(config.shape(layer), device, workspace.dtype, config.measure.tolerance)


def measure(
    bench: Bench, plans: Sequence[ConvPlan], repeats: int, settings: MeasureConfig
) -> list[Measured]:
    """Plans measured in turn, as the configuration says.

    Raises:
        WrongResultError: one computes something else.
    """
    clock = CpuTimeClock() if settings.cpu_time else None
    return bench.measure(plans, repeats, settings.warmup, clock)


def search_plans(
    workspace: ConvolutionWorkspace,
    layer: str,
    site: Site,
    report: Callable[[list[Row]], None],
) -> list[Row]:
    """Measure plans of a convolution until there are so many.

    What the ledger holds already is not measured again.

    Args:
        workspace: of the study.
        layer: the convolution's name.
        site: where plans are measured.
        report: told all rows after each evaluation.

    Returns:
        The ledger's rows of this device; fewer than asked where there are no more plans.

    Raises:
        SearchFailedError: too many plans in a row, or PyTorch's own, could not be measured.
        InputError: the cluster has no room, or no plan suits the convolution.
    """
    config, say = workspace.config, partial(log_line, workspace.root)
    ledger = Ledger(workspace.ledger_part(layer), PLANS, say)

    def rows() -> list[Row]:
        return [row for row in ledger.rows() if row["device"] == site.device]

    def failed(values: dict[str, Any], reason: str) -> Row:
        plan = ConvPlan.from_dict(values)
        row = plan_row(layer, config.shape(layer), plan, site.device, config.dtype)
        return {**row, "failure": reason}

    baselines = workspace.baselines(layer, site)
    left = config.search.evaluations + 1 - len(rows())
    if left > 0:
        proposals = PlanProposals(
            workspace.space(layer, site),
            baselines,
            lambda plan: ledger.find(plan.key, site.device),
            config.seed,
            find_searcher(config.search.searcher),
            most=left,
            retries=RETRIES,
        )
        recorder = Recorder(
            ledger, lambda row: {}, failed, proposals, lambda: report(rows()), say, "plan"
        )
        trial = tune.with_parameters(PlanTrial, workspace=workspace, layer=layer, site=site)
        folder = workspace.work / "tune" / layer
        run_trials(trial, proposals, recorder, config.resources, folder, left)
    own = next(row for row in rows() if is_pytorch(row))
    if own["failure"]:
        raise SearchFailedError(
            f"{layer}: PyTorch's own convolution could not be measured: {own['failure']}"
        )
    return rows()


def measure_fronts(
    workspace: ConvolutionWorkspace, site: Site, plans: dict[str, list[ConvPlan]]
) -> Iterator[list[Row]]:
    """A task: plans of each convolution measured in turn; a list of rows for each.

    Raises:
        InputError: this process is not where the study measures.
    """
    settings = workspace.config.measure
    for layer, tried in plans.items():
        bench = open_bench(workspace, layer, site)
        found = measure(bench, tried, settings.front_repeats, settings)
        shape, dtype = workspace.config.shape(layer), workspace.config.dtype
        yield [
            {**plan_row(layer, shape, plan, site.device, dtype), **asdict(measured)}
            for plan, measured in zip(tried, found, strict=True)
        ]
