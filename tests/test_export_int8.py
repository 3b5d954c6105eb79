"""`supersam export` to int8 weights, whose cost is measured, and to torch's own programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from exporting import SMALL, Call, export_command, made_study

WITHOUT_THE_PROJECT = """
import sys, torch
encoder = torch.export.load(sys.argv[1]).module()
assert encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 256, 16, 16)
assert not {"automl", "trainables", "search_spaces", "segment_anything"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_study(tmp_path_factory)


@pytest.fixture
def call(root: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    return export_command(root, capsys)


def test_int8_says_what_it_costs(root: Path, call: Call, tmp_path: Path) -> None:
    into = tmp_path / "int8"
    asked = ["--best", "encoder_params<=90%", "--best", "latency_ms<=60", "--to", "onnx", "--int8"]
    status, out, err = call(*asked, "--into", into, "--json")
    assert status == 0, err
    value = json.loads(out)
    assert value["subnet"] == SMALL.key
    miou = value["miou"]
    assert (miou["split"], miou["pictures"], miou["prompts"]) == ("val", 3, "box")
    assert miou["float32"] > 0.05
    assert miou["cost"] == pytest.approx(miou["float32"] - miou["int8"])
    assert abs(miou["cost"]) < 0.02
    about = json.loads((into / "model.json").read_text())
    assert (about["miou"], about["weights"]) == (miou, "int8")
    weights = root / "subnets" / SMALL.key / "model.safetensors"
    written = sum((into / f"{part}.onnx").stat().st_size for part in ("encoder", "decoder"))
    assert written < 0.6 * weights.stat().st_size


def test_torch_programs_load_without_the_project(call: Call, tmp_path: Path) -> None:
    status, out, err = call(SMALL.key, "--to", "torch", "--into", tmp_path / "torch")
    assert status == 0, err
    assert "at most" in out
    encoder = tmp_path / "torch" / "encoder.pt2"
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_THE_PROJECT, str(encoder)], check=False
    )
    assert done.returncode == 0
