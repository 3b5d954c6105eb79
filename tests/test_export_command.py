"""`supersam export`: from a study's front to models that run without the project."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from exporting import LARGE, SMALL, Call, export_command, made_study
from PIL import Image

from automl.cli import main
from automl.commands import PROJECT
from automl.sam.stages import FRONT
from trainables.data.pictures import Pictures
from trainables.sam.segment_anything_import import SamPredictor
from trainables.sam.standalone import load_subnet

EXAMPLE = PROJECT / "examples" / "onnx_masks.py"
WITHOUT_THE_PROJECT = """
import runpy, sys
example, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(example, run_name="__main__")
ours = {"torch", "automl", "trainables", "search_spaces", "segment_anything"}
assert not ours & sys.modules.keys(), ours & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_study(tmp_path_factory)


@pytest.fixture
def call(root: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    return export_command(root, capsys)


def front_onnx(root: Path) -> dict[str, Any]:
    return {row["subnet"]: row["onnx"] for row in pq.read_table(root / "front.parquet").to_pylist()}


@pytest.fixture(scope="module")
def exported(root: Path) -> Path:
    """The small subnet as ONNX, in its own folder."""
    assert main(["export", "--output", str(root), SMALL.key, "--to", "onnx"]) == 0
    return root / "subnets" / SMALL.key / "onnx"


def test_onnx_stands_in_the_subnets_folder_and_in_the_front(root: Path, exported: Path) -> None:
    names = {"encoder.onnx", "decoder.onnx", "model.json"}
    assert {path.name for path in exported.iterdir()} == names
    about = json.loads((exported / "model.json").read_text())
    assert (about["subnet"], about["weights"], about["image_size"]) == (SMALL.key, "float32", 256)
    assert max(about["largest_differences"].values()) < 1e-3
    noted = f"subnets/{SMALL.key}/onnx/encoder.onnx"
    assert front_onnx(root) == {SMALL.key: noted, LARGE.key: None}
    assert (root / noted).is_file()
    assert pq.read_schema(root / "front.parquet").equals(FRONT)


def test_it_gives_the_predictors_masks_without_torch(
    root: Path, exported: Path, tmp_path: Path
) -> None:
    picture = Pictures(root / "data" / "val.parquet")[1]
    pixels = picture.pixels[:200]  # larger than the input, and not square
    x, y, width, height = max(picture.objects, key=lambda row: row["area"])["box"]
    box = np.array([x, y, x + width, min(y + height, 200)])
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    asked = [exported, tmp_path / "picture.png", *box, "--save", tmp_path / "mask.png"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_THE_PROJECT, str(EXAMPLE), *map(str, asked)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "predicted IoU" in done.stdout
    predictor = SamPredictor(load_subnet(exported.parent))
    predictor.set_image(pixels)
    masks, scores, _ = predictor.predict(box=box)
    expected = masks[scores.argmax()]
    found = np.asarray(Image.open(tmp_path / "mask.png")) > 0
    assert expected.sum() > 100
    assert (found != expected).sum() < 0.01 * expected.sum()
    assert f"{scores.max():.3f}" in done.stdout


def test_what_is_there_is_replaced_only_when_asked(
    root: Path, exported: Path, call: Call, tmp_path: Path
) -> None:
    before = (exported / "model.json").stat().st_mtime_ns
    status, out, err = call(SMALL.key, "--to", "onnx")
    assert (status, out) == (2, "")
    assert f"{exported} has model.json already" in err
    assert "--overwrite" in err
    assert (exported / "model.json").stat().st_mtime_ns == before
    into = tmp_path / "mine"
    into.mkdir()
    (into / "model.safetensors").write_text("precious")
    (into / "notes.txt").write_text("mine")
    status, _, err = call(SMALL.key, "--into", into)
    assert status == 2
    assert (into / "model.safetensors").read_text() == "precious"
    assert call(SMALL.key, "--into", into, "--overwrite")[0] == 0
    assert load_subnet(into).image_encoder.img_size == 256
    assert {path.name for path in into.iterdir()} == {
        *("model.safetensors", "subnet.json", "notes.txt"),
    }


def test_the_best_within_bounds_is_taken(call: Call) -> None:
    for bound, expected in (("encoder_params<=100%", LARGE), ("latency_ms<=50", SMALL)):
        status, out, err = call("--best", bound, "--json")
        assert status == 0, err
        assert json.loads(out)["subnet"] == expected.key


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["--best: give it or the key of one subnet"]),
        ([SMALL.key, "--best", "params<=50%"], ["--best: give it or the key of one subnet"]),
        ([SMALL.key, LARGE.key], ["key of one subnet"]),
        (["--best", "params"], ["--best: 'params' is no bound"]),
        (["--best", "encoder_params<=1%"], ["none of the front's 2 subnets keeps that"]),
        (
            [SMALL.key, "--to", "tflite"],
            ["--to: 'tflite' is unknown; choose from safetensors, onn"],
        ),
        ([SMALL.key, "--to", "torch", "--int8"], ["--int8: torch has no int8 weights"]),
        (["0123456789ab", "--to", "onnx"], ["yet"]),
        ([SMALL.key, "--to", "onnx", "--into", __file__], ["is a file; give a folder"]),
        ([SMALL.key, "seed=9"], ["another configuration"]),
    ],
)
def test_mistakes_are_one_line(call: Call, arguments: list[str], parts: list[str]) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert line.startswith("supersam: ")
    for part in parts:
        assert part in line
