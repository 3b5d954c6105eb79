"""A study of channel pruning as a user runs it: killed on the way, resumed, and run once more."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from mlflow import MlflowClient
from pruning_inputs import CLASSES, SIZE, small_study
from studies import finish, kill, start, wait_for
from torch import Tensor

from automl.channel_pruning.ledger import NETWORKS
from automl.channel_pruning.workspace import kept_of
from automl.families import open_study
from automl.ledger import read_rows
from trainables.channel_pruning.costs import count_macs, count_params
from trainables.channel_pruning.data.batches import normalised, plain_batches
from trainables.channel_pruning.groups import Kept
from trainables.channel_pruning.masked import MaskedNetwork
from trainables.channel_pruning.standalone import load_slimmed


def arguments(folder: Path, overrides: list[str]) -> list[str]:
    config = folder / "study.yaml"
    config.write_text("family: channel_pruning\n")
    return ["--config", str(config), *overrides]


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return small_study(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def done(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """Its directory, what it printed, and the rows that were there when it was killed."""
    folder = tmp_path_factory.mktemp("pruning")
    output, given = folder / "out", arguments(folder, overrides)
    process, parts = start(output, *given), output / "work" / "ledger"
    wait_for(lambda: [*parts.glob("*@4.parquet")], process)
    kill(process)
    before = [row for path in parts.glob("*.parquet") for row in read_rows(path)]
    return output, finish(start(output, *given)), before


@pytest.fixture(scope="module")
def study(done: Any, overrides: list[str]) -> Any:
    return open_study(None, overrides, done[0])


@pytest.fixture(scope="module")
def front(done: Any) -> list[dict[str, Any]]:
    return read_rows(done[0] / "front.parquet")


def test_a_killed_study_goes_on_and_evaluates_nothing_twice(done: Any) -> None:
    output, value, before = done
    rows = read_rows(output / "evaluations.parquet")
    identities = [tuple(row[name] for name in NETWORKS.identity) for row in rows]
    assert len(identities) == len(set(identities))
    assert len(before) >= 3
    assert all(row in rows for row in before), "what was evaluated before the kill stays"
    searched = [row for row in rows if row["tuning_steps"] == 1]
    assert [row["weights"].split("@")[1] for row in searched] == ["2", "2", "4", "4"]
    assert "ended without a word, by a kill" in (output / "study.log").read_text()
    assert not (output / "work").exists()
    assert [row["network"] for row in value["front"]]


def test_the_front_is_measured_once_on_test_and_not_dominated(done: Any, front: Any) -> None:
    output, value, _ = done
    parent = json.loads((output / "parent.json").read_text())
    assert value["parent"] == parent
    points = [(row["macs"], row["accuracy_val"]) for row in front]
    assert all(
        not (macs <= other_macs and accuracy >= other)
        for macs, accuracy in points
        for other_macs, other in points
        if (macs, accuracy) != (other_macs, other)
    )
    tested = [row for row in read_rows(output / "evaluations.parquet") if row["split"] == "test"]
    assert {row["network"] for row in tested} == {row["network"] for row in front}
    for row in front:
        assert row["macs"] <= row["share"] * parent["macs"]
        assert row["tuning_steps"] == 4
        assert 0 <= row["accuracy_test"] <= 1
        assert row["latency_ms"] > 0 < row["parent_latency_ms"]
        assert row["masked_difference"] <= 1e-5
        assert all(
            len(kept) == count <= full
            for kept, count, full in zip(
                row["kept"], row["channels"], parent["channels"], strict=True
            )
        )


def some_pictures(study: Any) -> Tensor:
    images = study.workspace.images("test")
    return next(plain_batches(images, batch_size=6, image_size=SIZE)).pictures


@torch.no_grad()
def test_standalone_networks_and_onnx_give_what_the_study_measured(study: Any, front: Any) -> None:
    workspace, pictures = study.workspace, some_pictures(study)
    images = workspace.images("test")
    everything = next(plain_batches(images, batch_size=len(images), image_size=SIZE))
    for row in front:
        folder = workspace.network_folder(row["network"])
        network = load_slimmed(folder, workspace.build)
        assert count_macs(network, SIZE) == row["macs"]
        assert count_params(network) == row["params"]
        described = json.loads((folder / "network.json").read_text())
        assert described["classes"] == list(CLASSES)
        right = network(normalised(everything.pictures)).argmax(1) == everything.labels
        assert float(right.float().mean()) == pytest.approx(row["accuracy_test"])
        session = onnxruntime.InferenceSession(study.output / row["onnx"])
        for some in (pictures, pictures[:1]):
            (logits,) = session.run(None, {"pictures": some.numpy()})
            own = network(normalised(some)).numpy()
            np.testing.assert_allclose(logits, own, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_channels_of_the_front_give_the_masked_network(study: Any, front: Any) -> None:
    prunable, pictures = study.workspace.prunable(), normalised(some_pictures(study))
    for row in front:
        kept: Kept = kept_of(row, prunable)
        masks = [
            torch.tensor([float(i in kept[group.name]) for i in range(group.channels)])
            for group in prunable.groups
        ]
        masked = MaskedNetwork(prunable.network, prunable.groups, "both")(pictures, masks)
        slim = prunable.slimmed(kept).eval()(pictures)
        torch.testing.assert_close(slim, masked, rtol=0, atol=1e-5)


def test_run_again_it_repeats_nothing_and_writes_its_report_anew(
    done: Any, overrides: list[str], study: Any
) -> None:
    output = done[0]
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    study.run_until("report")
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()} == before
    value, tables = study.summary()
    assert value["front"] == done[1]["front"]
    assert len(tables) == 1
    page = study.write_report().read_text()
    for text in ("The front", "Channels kept", "layer1.0.conv1", "own.py:small", "hypervolume"):
        assert text in page
    assert "<script src" not in page


def test_mlflow_holds_study_designs_and_networks_with_their_files(done: Any, front: Any) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{done[0].parent / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name != "Default")
    runs = client.search_runs([experiment.experiment_id])
    kinds = [run.data.tags["nas.kind"] for run in runs]
    assert sorted(kinds) == ["design"] * 2 + ["network"] * len(front) + ["study"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_kind = {run.data.tags["nas.kind"]: run for run in runs}
    curve = client.get_metric_history(by_kind["design"].info.run_id, "hypervolume")
    assert {point.step for point in curve} == {1, 2}
    assert by_kind["study"].data.metrics["front_size"] == len(front)
    network = by_kind["network"]
    files = {file.path for file in client.list_artifacts(network.info.run_id, "network")}
    assert {f"network/{name}" for name in ("model.onnx", "model.safetensors")} <= files
    row = next(row for row in front if row["network"] == network.data.tags["network"])
    assert network.data.metrics["accuracy_test"] == pytest.approx(row["accuracy_test"], abs=1e-4)
