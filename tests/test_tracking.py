from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from automl.runs import tracking_uri
from automl.sam.config import StudyConfig
from automl.sam.tracking import Tracking
from search_spaces.design import DesignSpace


def test_a_design_has_a_run_for_each_number_of_steps_and_none_twice(tmp_path: Path) -> None:
    config, output = StudyConfig(), tmp_path / "study"
    tracking = Tracking(config, output)
    space = DesignSpace()
    design = space.design(space.first_points()[0])

    def record(steps: int, hypervolume: float, **more: Any) -> dict[str, Any]:
        counts = {"space_size": 8.0, "steps": steps, "evaluations": 3, "front_size": 2}
        found = {"hypervolume": hypervolume, "best_miou_val": None}
        return {"design": design.key, **design.to_dict(), **counts, **found, **more}

    first, second = {"hypervolume": 0.1, "front_size": 1}, {"hypervolume": 0.15, "front_size": 2}
    tracking.log_search(f"{design.key}@8", [(1, first), (2, second)])
    tracking.log_design(record(8, 0.2))
    tracking.log_search(f"{design.key}@8", [(3, {"hypervolume": 0.9, "front_size": 9})])
    tracking.log_design(record(18, 0.3))
    tracking.log_design(record(8, 0.2))
    tracking.log_design(record(40, 0.0, failure="the loss is nan"))
    client = MlflowClient(tracking_uri=tracking_uri(config.tracking, output))
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.`nas.kind` = 'design'")
    found = {run.data.tags["nas.key"]: run.data for run in runs}
    assert len(runs) == 3
    assert {*found} == {f"{design.key}@{steps}" for steps in (8, 18, 40)}
    assert found[f"{design.key}@18"].metrics["hypervolume"] == 0.3
    (run_id,) = (r.info.run_id for r in runs if r.data.tags["nas.key"] == f"{design.key}@8")
    history = client.get_metric_history(run_id, "hypervolume")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.15), (3, 0.2)]
    assert "failure" not in found[f"{design.key}@18"].params
    assert found[f"{design.key}@40"].params["failure"] == "the loss is nan"
