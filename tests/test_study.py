"""The whole way, as a user goes it: the job in processes of its own, on the parent that ships."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from PIL import Image
from pycocotools import mask as coco_mask
from studies import ENVIRONMENT, PROJECT, finish, kill, start, wait_for

from automl.sam.config import load_config
from automl.sam.stages import STAGES, stage_costs
from automl.sam.study import Study
from search_spaces import InputError, Subnet
from trainables.data.pictures import Pictures
from trainables.sam.segment_anything_import import SamAutomaticMaskGenerator, SamPredictor
from trainables.sam.standalone import load_subnet

SMALL = [
    "evaluation.val_pictures=6",
    "evaluation.test_pictures=4",
    "prioritise.score_pictures=2",
    "prioritise.worth_pictures=2",
    "training.batch_size=2",
    "training.max_objects=2",
    "training.checkpoint_every=2",
    "designs.trials=2",
    "designs.steps=2",
    "designs.evaluations=6",
    "final.steps=4",
    "final.evaluations=8",
    "resources.train_cpus=1",  # two threads of each of two studies would wait for each other
    "resources.evaluator_cpus=1",
]
CONTRACT = {
    "config.yaml",
    "study.log",
    "data/test.parquet",
    "data/train.parquet",
    "data/val.parquet",
    "designs.parquet",
    "evaluations.parquet",
    "front.parquet",
    "gallery.parquet",
    "importance.parquet",
    "parent.json",
    "report.html",
    "supernet/state.json",
    "supernet/supernet.safetensors",
}


def files(output: Path) -> set[str]:
    return {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that ran to its end."""
    output = tmp_path_factory.mktemp("whole") / "study"
    finish(start(output, *SMALL))
    return output


def begun(whole: Path, output: Path) -> Path:
    """The same study in another directory, as it is before the designs are tried."""
    shutil.copytree(whole / "data", output / "data")
    for name in ("config.yaml", "importance.parquet", "parent.json"):
        shutil.copy(whole / name, output)
    return output


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, whole: Path) -> Path:
    """The same study, killed with all its processes in the second design's search, and resumed."""
    output = begun(whole, tmp_path_factory.mktemp("resumed") / "study")
    process = start(output, *SMALL)
    parts = output / "work" / "ledger"
    wait_for(lambda: len(list(parts.glob("*.parquet"))) == 2, process)
    kill(process)
    (output / "killed").write_text(str(sum(len(rows(p)) for p in parts.glob("*.parquet"))))
    finish(start(output, *SMALL))
    (output / "killed").unlink()
    return output


@pytest.fixture(scope="module")
def front(whole: Path) -> list[dict[str, Any]]:
    return rows(whole / "front.parquet")


def test_the_output_holds_what_the_contract_says(whole: Path, front: list[dict[str, Any]]) -> None:
    subnets = {
        f"subnets/{row['subnet']}/{name}"
        for row in front
        for name in ("model.safetensors", "subnet.json")
    }
    assert files(whole) == CONTRACT | subnets


def test_the_front_is_not_dominated_and_measured_on_test(
    whole: Path, front: list[dict[str, Any]]
) -> None:
    points = [(row["encoder_macs"], row["miou_val"]) for row in front]
    for macs, miou in points:
        assert not any((m <= macs and s > miou) or (m < macs and s >= miou) for m, s in points)
    ledger = rows(whole / "evaluations.parquet")
    tested = {row["subnet"] for row in ledger if row["miou_test"] is not None}
    assert tested == {row["subnet"] for row in front}
    assert all(0 < row["miou_test"] < 1 for row in front)
    shared = set(pq.read_schema(whole / "front.parquet").names)
    assert {"layers", "mlp_widths", "latency_ms", "miou_val", "onnx"} <= shared


def test_no_evaluation_is_made_twice(whole: Path) -> None:
    ledger = rows(whole / "evaluations.parquet")
    keys = [(r["subnet"], r["weights"], r["split"], r["pictures"]) for r in ledger]
    assert len(set(keys)) == len(keys)
    on_val = [row for row in ledger if row["split"] == "val"]
    assert len(on_val) == 2 * 6 + 8


def test_a_study_that_is_done_repeats_nothing(whole: Path) -> None:
    before = {name: (whole / name).stat().st_mtime_ns for name in files(whole)}
    started = time.monotonic()
    result = finish(start(whole, *SMALL))
    assert time.monotonic() - started < 120
    assert {name: (whole / name).stat().st_mtime_ns for name in files(whole)} == before
    assert [row["subnet"] for row in result["front"]] == [
        row["subnet"] for row in rows(whole / "front.parquet")
    ]


def test_a_killed_study_goes_on_and_ends_like_one_that_was_not(whole: Path, resumed: Path) -> None:
    assert files(resumed) == files(whole)
    assert "ended without a word, by a kill" in (resumed / "study.log").read_text()
    assert "ended" not in (whole / "study.log").read_text()
    for name in ("designs.parquet", "evaluations.parquet", "front.parquet"):
        ours, theirs = rows(resumed / name), rows(whole / name)
        assert [row.get("subnet", row["design"]) for row in ours] == [
            row.get("subnet", row["design"]) for row in theirs
        ]


def test_the_same_seed_tries_the_same_designs_and_subnets(whole: Path, resumed: Path) -> None:
    for name, columns in (("designs", ("design",)), ("evaluations", ("weights", "subnet"))):
        ours, theirs = (rows(o / f"{name}.parquet") for o in (whole, resumed))
        assert [[r[c] for c in columns] for r in ours] == [[r[c] for c in columns] for r in theirs]


def test_another_configuration_is_refused_and_nothing_is_overwritten(whole: Path) -> None:
    before = {name: (whole / name).stat().st_mtime_ns for name in files(whole)}
    process = start(whole, *SMALL, "seed=7")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert out == ""
    (line,) = err.strip().splitlines()
    for part in (str(whole), "another configuration", "seed is 0 there, 7 here"):
        assert part in line
    assert {name: (whole / name).stat().st_mtime_ns for name in files(whole)} == before


def test_front_subnets_run_in_segment_anything(whole: Path, front: list[dict[str, Any]]) -> None:
    picture = Pictures(whole / "data" / "test.parquet")[0]
    smallest = min(front, key=lambda row: row["encoder_macs"])
    sam = load_subnet(whole / "subnets" / smallest["subnet"])
    encoder = sum(p.numel() for p in sam.image_encoder.parameters())
    assert encoder == smallest["encoder_params"]
    assert sum(p.numel() for p in sam.parameters()) == smallest["params"]
    predictor = SamPredictor(sam)
    predictor.set_image(picture.pixels)
    x, y, width, height = picture.objects[0]["box"]
    masks, scores, _ = predictor.predict(box=np.array([x, y, x + width, y + height]))
    assert masks.shape == (3, *picture.size)
    assert masks.any()
    assert scores.shape == (3,)
    generator = SamAutomaticMaskGenerator(
        sam, points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0
    )
    assert generator.generate(picture.pixels)


def test_standalone_figures_equal_the_studys(whole: Path, front: list[dict[str, Any]]) -> None:
    study = Study(load_config(PROJECT / "configs" / "quickstart.yaml", SMALL), whole)
    limited = front[0]
    examples = study.workspace.examples("test")
    alone = study.standalone(limited["subnet"])
    measured = examples.evaluate(alone, alone.largest).miou
    assert abs(measured - limited["miou_test"]) < 1e-3


def test_any_subnet_of_the_final_supernet_can_be_measured_again(
    whole: Path, front: list[dict[str, Any]]
) -> None:
    study = Study(load_config(PROJECT / "configs" / "quickstart.yaml", SMALL), whole)
    on_front = {row["subnet"] for row in front}
    on_val = [r for r in rows(whole / "evaluations.parquet") if r["split"] == "val"]
    final = [r for r in on_val if r["weights"].endswith("@4")]
    asked = [front[0], *(r for r in final if r["subnet"] not in on_front)][:2]
    for row in asked:
        value = study.evaluate(row["subnet"], prompts=["point"], pictures=6)
        (measured,) = value["rows"]
        assert value["encoder_params"] == row["encoder_params"]
        assert abs(measured["miou"] - row["miou_val"]) < 1e-3


def test_mlflow_holds_study_designs_and_subnets_with_models(
    whole: Path, front: list[dict[str, Any]]
) -> None:
    uri = f"sqlite:///{whole.parent / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = (e for e in client.search_experiments() if e.name != "Default")

    def runs(kind: str) -> list[Any]:
        found = client.search_runs([experiment.experiment_id], f"tags.`nas.kind` = '{kind}'")
        assert all(run.info.status == "FINISHED" for run in found)
        return list(found)

    (study,) = runs("study")
    assert study.data.metrics["front_size"] == len(front)
    assert study.data.metrics["hypervolume"] > 0
    artifacts = {item.path for item in client.list_artifacts(study.info.run_id)}
    assert {"front.json", "front.png", "hypervolume.png"} <= artifacts
    growth = client.get_metric_history(study.info.run_id, "best_hypervolume_so_far")
    tried = [row for row in rows(whole / "evaluations.parquet") if row["split"] == "val"]
    assert [metric.step for metric in growth] == list(range(1, len(tried) + 1))
    assert [metric.value for metric in growth] == sorted(metric.value for metric in growth)
    searched = {row["weights"] for row in rows(whole / "evaluations.parquet")}
    designs = {run.data.tags["nas.key"]: run for run in runs("design")}
    assert set(designs) == searched
    for weights, run in designs.items():
        history = client.get_metric_history(run.info.run_id, "hypervolume")
        evaluated = [r for r in rows(whole / "evaluations.parquet") if r["weights"] == weights]
        on_val = [row for row in evaluated if row["split"] == "val"]
        assert {metric.step for metric in history} == set(range(1, len(on_val) + 1))
    subnets = runs("subnet")
    assert {run.data.tags["nas.key"] for run in subnets} == {row["subnet"] for row in front}
    for run in subnets:
        assert {"depth", "mlp_ratio_mean", "encoder_params_m"} <= set(run.data.params)
        assert Subnet.from_dict(json.loads(run.data.tags["nas.subnet"])).key in {
            row["subnet"] for row in front
        }
        assert {"depth", "mlp_ratio_mean", "encoder_params_m"} <= set(run.data.metrics)
        assert {"miou_val", "miou_test", "latency_ms", "encoder_macs_g"} <= set(run.data.metrics)

    named = {
        alias: client.get_run(client.get_model_version_by_alias("study", alias).run_id)
        for alias in ("best", "balanced", "smallest")
    }
    by_key = {row["subnet"]: row for row in front}
    shown = {alias: by_key[run.data.tags["nas.key"]] for alias, run in named.items()}
    assert shown["best"]["miou_val"] == max(row["miou_val"] for row in front)
    assert shown["smallest"]["encoder_params"] == min(row["encoder_params"] for row in front)
    (drawn,) = {row["subnet"] for row in rows(whole / "gallery.parquet")}
    assert shown["balanced"]["subnet"] == drawn

    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model("models:/study@balanced")
    picture = Pictures(whole / "data" / "test.parquet")[0]
    encoded = io.BytesIO()
    Image.fromarray(picture.pixels).save(encoded, "PNG")
    x, y, width, height = picture.objects[0]["box"]
    asked = [{"image": encoded.getvalue(), "box": [x, y, x + width, y + height]}]
    (answer,) = model.predict(asked).to_dict("records")
    mask = coco_mask.decode(
        {"size": [answer["height"], answer["width"]], "counts": answer["mask"].encode()}
    )
    predictor = SamPredictor(load_subnet(whole / "subnets" / drawn))
    predictor.set_image(picture.pixels)
    masks, scores, _ = predictor.predict(box=np.array(asked[0]["box"]))
    assert (mask.astype(bool) == masks[scores.argmax()]).all()


def test_the_quick_start_in_python_prints_the_front(
    whole: Path, front: list[dict[str, Any]]
) -> None:
    command = [sys.executable, PROJECT / "examples" / "quick_start.py", "--output", whole, *SMALL]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^parent: [\d,]+ parameters, mIoU 0\.\d{3}$", done.stdout, re.MULTILINE)
    shown = re.findall(r"^([0-9a-f]{12}): \d+ layers, \d+% smaller", done.stdout, re.MULTILINE)
    assert set(shown) == {row["subnet"] for row in front}


def test_the_result_names_the_best_subnet_within_bounds(
    whole: Path, front: list[dict[str, Any]]
) -> None:
    result = Study(load_config(PROJECT / "configs" / "quickstart.yaml", SMALL), whole).result()
    assert result.best()["miou_val"] == max(row["miou_val"] for row in front)
    smallest = min(row["encoder_params"] for row in front)
    assert result.best(encoder_params=smallest)["encoder_params"] == smallest
    with pytest.raises(InputError, match="none of the front"):
        result.best(encoder_params="1%")


def test_any_evaluated_subnet_can_be_exported(whole: Path, front: list[dict[str, Any]]) -> None:
    study = Study(load_config(PROJECT / "configs" / "quickstart.yaml", SMALL), whole)
    on_front = {row["subnet"] for row in front}
    final = [r for r in rows(whole / "evaluations.parquet") if r["weights"].endswith("@4")]
    other = next((r for r in final if r["subnet"] not in on_front), final[0])
    folder = study.export(other["subnet"])
    described = json.loads((folder / "subnet.json").read_text())
    assert Subnet.from_dict(described).key == other["subnet"]
    if other["subnet"] not in on_front:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    with pytest.raises(InputError, match="was not evaluated"):
        study.export("0123456789ab")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_study_ends_in_order_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, whole: Path
) -> None:
    process = start(begun(whole, tmp_path / "study"), *SMALL)
    wait_for((tmp_path / "study" / "work" / "tune").exists, process)
    process.send_signal(number)
    started = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert err.splitlines()[-1] == "supersam: stopped; the same command goes on where it was"
    assert "Traceback" not in err
    log = (tmp_path / "study" / "study.log").read_text()
    assert f"process {process.pid} on " in log
    assert log.endswith(f" was ended by KeyboardInterrupt: {number.name}\n")


def test_every_stage_has_a_weight_in_the_progress(tmp_path: Path) -> None:
    study = Study(load_config(PROJECT / "configs" / "quickstart.yaml", SMALL), tmp_path / "new")
    assert list(stage_costs(study.workspace)) == list(STAGES)
