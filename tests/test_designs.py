"""The outer search without its trainings: who is tried on which rung, and what is kept."""

import io
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.train import WorkerGroupError
from rich.console import Console

from automl import designed_stages, trial_reports
from automl.base_train import raised
from automl.halving import Budget
from automl.ledger import read_rows, write_rows
from automl.progress import StudyProgress
from automl.sam import design_trial, designs, stages
from automl.sam.config import check_config, load_config
from automl.sam.design_trial import DESIGNS, score_design
from automl.sam.designs import (
    design_proposals,
    refine_design,
    search_designs,
    searched_rungs,
    study_rungs,
)
from automl.sam.workspace import Workspace
from automl.trial_reports import SearchReports, SearchState
from search_spaces import InputError
from search_spaces.design import Design

REACHED = {"front_size": 2, "hypervolume": 0.2}
SEARCHING = {"phase": "search", "weights": "d@2", "step": 3, "total": 3, **REACHED}
SEARCHING |= {"curve": [(2, REACHED), (3, REACHED)]}


def workspace_of(tmp_path: Path, **settings: Any) -> Workspace:
    values = {
        "designs": {"trials": 5, "reduction": 2, "steps": 2, "evaluations": 3, **settings},
        "final": {"steps": 16, "evaluations": 24},
    }
    return Workspace(check_config(values, "here"), tmp_path / "out")


def record_of(design: Design, budget: Budget, **more: Any) -> dict[str, Any]:
    return {
        "design": design.key,
        **design.to_dict(),
        "space": "s",
        "space_size": 8.0,
        "steps": budget.steps,
        "evaluations": budget.evaluations,
        "hypervolume": 0.5,
        "front_size": 2,
        "best_miou_val": 0.5,
        "smallest_encoder_params": 1000,
        "seconds": 1.0,
        **more,
    }


def by_steps(records: list[dict[str, Any]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for record in records:
        found.setdefault(record["steps"], []).append(record["design"])
    return found


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that only leave a record, with Tune's searcher and without its processes."""

    def run(
        workspace: Workspace,
        budget: Budget,
        tune_config: tune.TuneConfig,
        param_space: dict[str, Any],
        name: str,
        watch: Any,
    ) -> list[dict[str, Any]]:
        search, records = tune_config.search_alg, []
        for number in range(tune_config.num_samples):
            if isinstance(search, dict):
                flat = search["points_to_evaluate"][number]
                assert {*flat} == {*param_space}
            else:
                flat = search.suggest(str(number))
            design = workspace.config.designs.space.design(flat)
            records.append(record_of(design, budget, hypervolume=int(design.key, 16) / 16**12))
            if not isinstance(search, dict):
                search.on_trial_complete(str(number), records[-1])
            watch(number, {"phase": "done", "record": records[-1]})
        return records

    monkeypatch.setattr(designs, "BasicVariantGenerator", dict)
    monkeypatch.setattr(designs, "_run", run)


def test_the_best_designs_climb_the_rungs(tmp_path: Path, untrained: None) -> None:
    space = {"probabilities": {"1": [0.0, 0.5], "2": 0.25}}
    workspace = workspace_of(tmp_path, space=space)
    assert [(r.designs, r.budget.steps) for r in study_rungs(workspace.config)] == [
        (5, 2),
        (3, 4),
        (2, 8),
        (1, 16),
    ]
    seen: list[tuple[int, int]] = []
    records = search_designs(workspace, 2, lambda rung, number, report: seen.append((rung, number)))
    tried = by_steps(records)
    assert list(tried) == [2, 4, 8], "the final budget is the last stage's"
    # Of as many as were asked for, some may be the same.
    best = sorted(set(tried[2]), reverse=True)
    assert tried[4] == best[:3]
    assert tried[8] == best[:2]
    assert set(seen) == {
        (rung, number)
        for rung, designs_there in enumerate(tried.values())
        for number in range(len(designs_there))
    }
    chosen = next(Design.from_dict(r) for r in records if r["design"] == best[0])
    final = refine_design(workspace, chosen, lambda rung, number, report: seen.append((rung, -1)))
    assert (final["design"], final["steps"], final["evaluations"]) == (best[0], 16, 24)
    assert (3, -1) in seen


def test_a_search_starts_with_the_default_design_and_then_the_released_one() -> None:
    config = load_config(None, [])
    proposals = design_proposals(config)
    asked = [proposals.suggest(str(number)) for number in range(2)]
    assert asked == config.designs.space.first_points()


def test_the_quick_start_tries_three_designs_and_refines_one() -> None:
    path = Path(__file__).parent.parent / "configs" / "quickstart.yaml"
    config = load_config(path, [])
    rungs = study_rungs(config)
    assert [(r.designs, r.budget) for r in rungs] == [(3, Budget(8, 7)), (1, Budget(40, 20))]
    assert searched_rungs(config) == rungs[:1]


@pytest.mark.parametrize("settings", [{"trials": 1}, {"steps": 16, "evaluations": 24}])
def test_where_nothing_is_left_to_climb_the_only_rung_is_searched(
    tmp_path: Path, settings: dict[str, int]
) -> None:
    config = workspace_of(tmp_path, **settings).config
    assert searched_rungs(config) == study_rungs(config)
    assert len(study_rungs(config)) == 1


def test_a_design_that_can_not_be_trained_is_recorded_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_of(tmp_path)
    monkeypatch.setattr(Workspace, "worth", lambda self: [i / 10 for i in range(12)])

    def fails(*arguments: Any) -> Path:
        raise FloatingPointError("the loss of S is nan")

    reported: list[dict[str, Any]] = []
    monkeypatch.setattr(design_trial, "train_design", fails)
    monkeypatch.setattr(design_trial, "TuneReportCallback", list)
    monkeypatch.setattr(tune, "report", reported.append)
    offered = workspace.config.designs.space
    point = offered.first_points()[0]
    score_design(point, workspace, Budget(2, 3))
    record = reported[-1]["record"]
    assert record["hypervolume"] == 0.0
    assert record["failure"].startswith("the loss of S is nan; give a lower training.learning_rate")
    assert (record["steps"], record["evaluations"]) == (2, 0)
    assert {*DESIGNS.names} <= {*record}

    def never(*arguments: Any) -> Path:
        raise AssertionError("what is on record is not run again")

    monkeypatch.setattr(design_trial, "train_design", never)
    score_design(point, workspace, Budget(2, 3))
    assert reported[-1]["record"] == record
    with pytest.raises(AssertionError):
        score_design(point, workspace, Budget(2, 4))


def test_a_loss_that_is_not_finite_is_told_from_other_failures() -> None:
    trace = "Traceback (most recent call last):\n  File x\n{}: the loss is nan\n"
    failures = {
        0: RuntimeError("Connection closed by peer"),
        1: RuntimeError(trace.format("FloatingPointError")),
    }
    assert raised(WorkerGroupError("", failures), FloatingPointError) == "the loss is nan"
    assert raised(WorkerGroupError("", failures), InputError) is None
    failures[1] = RuntimeError(trace.format("search_spaces.errors.InputError"))
    assert raised(WorkerGroupError("", failures), InputError) == "the loss is nan"
    failures[1] = RuntimeError(trace.format("ValueError"))
    assert raised(WorkerGroupError("", failures), FloatingPointError) is None


class Runs:
    """Takes the place of MLflow."""

    logged: list[tuple[str, int]] = []  # noqa: RUF012

    def __init__(self, *arguments: Any) -> None:
        self.logged.clear()

    def log_design(self, record: dict[str, Any]) -> None:
        self.logged.append((record["design"], record["steps"]))

    def log_search(self, weights: str, curve: list[tuple[int, dict[str, float]]]) -> None:
        assert curve == SEARCHING["curve"]


def test_each_design_has_a_row_for_each_number_of_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_of(tmp_path, trials=3, concurrent=4)
    offered = workspace.config.designs.space
    first, second = (offered.design(point) for point in offered.first_points())
    low, high = (rung.budget for rung in searched_rungs(workspace.config))
    records = [
        record_of(first, low, hypervolume=0.9),
        record_of(second, low, hypervolume=0.2),
        record_of(second, low, hypervolume=0.2),
        record_of(first, high, hypervolume=0.3),
        record_of(second, high, hypervolume=0.4),
    ]

    def search(workspace: Workspace, concurrent: int, watch: Any) -> list[dict[str, Any]]:
        assert concurrent == 2
        watch(0, 2, {**SEARCHING, "hypervolume": 0.2})
        watch(1, 1, {"phase": "done", "hypervolume": 0.4, "record": records[-1]})
        return records

    monkeypatch.setattr(stages, "search_designs", search)
    monkeypatch.setattr(designed_stages, "concurrent_designs", lambda resources, asked: 2)
    monkeypatch.setattr(stages, "Tracking", Runs)
    out = io.StringIO()
    with (
        StudyProgress(stages.stage_costs(workspace), Console(file=out, width=200)) as progress,
        progress.stage("designs") as share,
    ):
        stages.try_designs(workspace, share)
    rows = read_rows(workspace.root / "designs.parquet")
    assert [(row["design"], row["steps"]) for row in rows] == [
        (first.key, low.steps),
        (second.key, low.steps),
        (first.key, high.steps),
        (second.key, high.steps),
    ]
    assert stages.best_design(workspace) == second, "more steps are the better judge"
    assert Runs.logged == [(second.key, high.steps)]
    (line,) = [text for text in out.getvalue().splitlines() if "designs.concurrent" in text]
    assert "4 designs at once asked" in line
    assert "room for 2" in line


def test_the_progress_names_rung_and_design(tmp_path: Path, monkeypatch: Any) -> None:
    workspace = workspace_of(tmp_path, trials=3)
    said: list[tuple[float, str]] = []

    class Share:
        def update(self, done: float, total: float, note: str) -> None:
            said.append((done / total, note))

    def search(workspace: Workspace, concurrent: int, watch: Any) -> Any:
        found = {**SEARCHING, "hypervolume": 0.25}
        watch(0, 2, found)
        watch(1, 1, found)
        raise InputError("enough")

    monkeypatch.setattr(stages, "search_designs", search)
    monkeypatch.setattr(designed_stages, "concurrent_designs", lambda resources, asked: asked)
    monkeypatch.setattr(stages, "Tracking", Runs)
    with pytest.raises(InputError, match="enough"):
        stages.try_designs(workspace, Share())  # type: ignore[arg-type]
    first, second = said
    assert first[1] == "rung 1/3, design 3/3, subnet 3/3, front of 2, hypervolume 0.2500"
    assert second[1].startswith("rung 2/3, design 2/2, ")
    assert 0 < first[0] < second[0] == pytest.approx(1)


def test_a_design_without_training_is_not_the_best(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    offered = workspace.config.designs.space
    first, second = (offered.design(point) for point in offered.first_points())
    budget = Budget(2, 3)
    rows = [
        record_of(first, budget, hypervolume=0.0, failure="the loss is nan"),
        record_of(second, budget, hypervolume=0.0),
    ]
    write_rows(rows, workspace.root / "designs.parquet", DESIGNS)
    assert stages.best_design(workspace) == second


def test_a_search_reports_every_so_often_and_leaves_nothing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[dict[str, Any]] = []
    clock = 100.0
    monkeypatch.setattr(trial_reports.tune, "report", told.append)
    monkeypatch.setattr(trial_reports.time, "monotonic", lambda: clock)
    reports = SearchReports("d@2", 4)
    for evaluations, seconds in enumerate([0.0, 0.4, 0.7, 0.1], start=1):
        clock += seconds
        reports.add(SearchState(evaluations, evaluations, evaluations / 10))
    assert [report["step"] for report in told] == [1, 3], "the first at once, then each second"
    reports.tell()
    reports.tell()
    assert [point[0] for report in told for point in report["curve"]] == [1, 2, 3, 4]
    assert told[-1] == {
        **{"phase": "search", "weights": "d@2", "total": 4, "step": 4},
        **{"front_size": 4, "hypervolume": 0.4},
        "curve": [(4, {"front_size": 4, "hypervolume": 0.4})],
    }
