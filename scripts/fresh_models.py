"""Do a study's models give its masks elsewhere? In fresh environments with what they ask for alone.

    python scripts/fresh_models.py runs/quickstart [--picture FILE] [--alias balanced]

The subnet is the one that MLflow's alias names. It is asked for six masks, three by boxes and three
by points, on a picture that the study has not seen: a file, or a picture of test with its mirror
image beside it. Its masks in this environment are compared with those of

- `mlflow.pyfunc.load_model`, where only the model's own requirements.txt is installed;
- `mlflow models predict` there, asked in JSON;
- `examples/onnx_masks.py`, where only onnxruntime, numpy and pillow are installed.

In neither environment this project can be imported, in the latter no torch either. By MLflow no
pixel may differ, and no score by more than 1e-5; by onnxruntime at most one pixel in a thousand of
a mask, and no score by more than 1e-3. Else the exit status is 1.

Installing takes some minutes and 2 GB in the folder for temporary files, which are removed.
"""

import argparse
import base64
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table

from automl.output import read_config
from automl.sam.config import check_config
from automl.sam.export import export_subnet
from automl.sam.study import Study
from trainables.data.pictures import Pictures
from trainables.sam.segment_anything_import import SamPredictor
from trainables.sam.standalone import load_subnet

PROJECT = Path(__file__).parent.parent
# Shares of the picture's width and height.
PROMPTS = (
    (0.1, 0.1, 0.6, 0.5),
    (0.3, 0.2, 0.9, 0.9),
    (0.0, 0.4, 0.5, 1.0),
    (0.5, 0.5),
    (0.25, 0.7),
    (0.8, 0.3),
)
ONNXRUNTIME = "onnxruntime"
OURS = ("automl", "trainables", "search_spaces")
ABSENT = """
import importlib.util, sys
there = [name for name in {names!r} if importlib.util.find_spec(name)]
sys.exit(f"can be imported: {{there}}" if there else 0)
"""
BY_MLFLOW = """
import json
from pathlib import Path
import mlflow
job = json.loads(Path("job.json").read_text())
mlflow.set_tracking_uri(job["store"])
model = mlflow.pyfunc.load_model(job["model"])
image = Path("picture.png").read_bytes()
kinds = {4: "box", 2: "point"}
rows = [{"image": image, kinds[len(prompt)]: prompt} for prompt in job["prompts"]]
model.predict(rows).to_json("answers.json", orient="records", double_precision=15)
"""
BY_ONNXRUNTIME = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
sys.path.insert(0, ".")
from onnx_masks import load, segment
job = json.loads(Path("job.json").read_text())
model, picture = load(Path("onnx")), Image.open("picture.png")
masks, scores = zip(*(segment(model, picture, prompt) for prompt in job["prompts"]))
np.savez("answers.npz", masks=masks, scores=scores)
"""
Answers = tuple[NDArray[np.bool_], NDArray[np.float64]]
"""Masks [prompts, height, width] and their scores."""


class Environment:
    """A new virtual environment with some packages, in which nothing else can be imported.

    Args:
        root: where it is made; programs run in its parent, without the variables of this process
            that concern Python.
        packages: as pip takes them.
        absent: modules that must not be there.
    """

    def __init__(self, root: Path, packages: list[str], absent: tuple[str, ...]) -> None:
        start = time.perf_counter()
        venv.create(root, with_pip=True)
        self._bin, self._here = root / "bin", root.parent
        kept = {name: v for name, v in os.environ.items() if not name.startswith("PYTHON")}
        self._environ = {**kept, "PATH": f"{self._bin}{os.pathsep}{kept['PATH']}"}
        self.run("pip", "install", "-q", "--disable-pip-version-check", *packages)
        self.seconds = time.perf_counter() - start
        self.bytes = sum(path.lstat().st_size for path in root.rglob("*") if path.is_file())
        self.python(ABSENT.format(names=absent))

    def python(self, program: str) -> None:
        """Run a program; neither its folder nor the user's own packages are on the path."""
        self.run("python", "-I", "-c", program)

    def run(self, name: str, *words: str | Path, **more: str) -> None:
        """Run a command of the environment."""
        done = subprocess.run(
            [self._bin / name, *words],
            cwd=self._here,
            env={**self._environ, **more},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{name}: {done.stdout[-2000:]}{done.stderr[-4000:]}")


def unseen(study: Study) -> Image.Image:
    """A picture of test, and its mirror image beside it."""
    pixels = Pictures(study.output / "data" / "test.parquet")[0].pixels
    return Image.fromarray(np.concatenate([pixels, pixels[:, ::-1]], axis=1))


def own_answers(folder: Path, picture: Image.Image, prompts: list[list[int]]) -> Answers:
    """Of the study's own subnet, in this environment."""
    predictor = SamPredictor(load_subnet(folder))
    predictor.set_image(np.asarray(picture))
    chosen = []
    for prompt in prompts:
        asked: dict[str, Any] = {"box": np.array(prompt)}
        if len(prompt) == 2:
            asked = {"point_coords": np.array([prompt]), "point_labels": np.ones(1)}
        masks, scores, _ = predictor.predict(**asked)
        chosen.append((masks[scores.argmax()], scores.max()))
    return np.array([mask for mask, _ in chosen]), np.array([score for _, score in chosen])


def decoded(rows: list[dict[str, Any]]) -> Answers:
    """What a model of MLflow answers."""
    masks = [
        coco_mask.decode({"size": [row["height"], row["width"]], "counts": row["mask"].encode()})
        for row in rows
    ]
    return np.array(masks, dtype=bool), np.array([row["score"] for row in rows])


def check_mlflow(here: Path, job: dict[str, Any], requirements: Path) -> list[tuple[Any, ...]]:
    """Ask by alias, from Python and on the command line: what, answers, seconds."""
    made = Environment(here / "served", ["-r", str(requirements)], (*OURS, "ray"))
    say(f"{requirements.name}: {made.bytes / 1e9:.1f} GB, installed in {made.seconds:.0f} s")
    start = time.perf_counter()
    made.python(BY_MLFLOW)
    loaded = time.perf_counter() - start
    answers = decoded(json.loads((here / "answers.json").read_text()))

    image = base64.b64encode((here / "picture.png").read_bytes()).decode()
    rows = [{"image": image, "box" if len(p) == 4 else "point": p} for p in job["prompts"]]
    (here / "asked.json").write_text(json.dumps({"dataframe_records": rows}))
    words = ["-m", job["model"], "-i", "asked.json", "-o", "said.json", "--env-manager", "local"]
    start = time.perf_counter()
    made.run("mlflow", "models", "predict", *words, MLFLOW_TRACKING_URI=job["store"])
    asked = time.perf_counter() - start
    said = decoded(json.loads((here / "said.json").read_text())["predictions"])
    return [("MLflow, load_model", answers, loaded), ("MLflow, models predict", said, asked)]


def check_onnx(here: Path, study: Study, key: str) -> tuple[Any, ...]:
    """Ask the exported model: what, answers, seconds."""
    export_subnet(study.workspace, key, to="onnx", into=here / "onnx", console=Console(stderr=True))
    shutil.copy(PROJECT / "examples" / "onnx_masks.py", here)
    absent = (*OURS, "torch", "segment_anything", "mlflow")
    made = Environment(here / "bare", ["onnxruntime", "numpy", "pillow"], absent)
    say(f"onnxruntime: {made.bytes / 1e9:.1f} GB, installed in {made.seconds:.0f} s")
    start = time.perf_counter()
    made.python(BY_ONNXRUNTIME)
    seconds = time.perf_counter() - start
    with np.load(here / "answers.npz") as saved:
        return ONNXRUNTIME, (saved["masks"], saved["scores"]), seconds


def compare(rows: list[tuple[Any, ...]], own: Answers) -> tuple[Table, bool]:
    """A row for each way to ask, and whether all keep to what the docstring above allows."""
    table = Table("what", "masks", "pixels differ", "score differs", "seconds")
    masks, scores = own
    right = True
    for what, (their_masks, their_scores), seconds in rows:
        differ = (their_masks != masks).sum(axis=(1, 2))
        apart = float(np.abs(their_scores - scores).max())
        share, score = (1e-3, 1e-3) if what == ONNXRUNTIME else (0, 1e-5)
        right &= bool((differ <= share * masks[0].size).all()) and apart <= score
        of = f"{differ.sum():,} of {masks.size:,}"
        table.add_row(what, str(len(their_masks)), of, f"{apart:.1e}", f"{seconds:.1f}")
    return table, right


def say(line: str) -> None:
    Console(stderr=True).print(line)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path, help="the output directory of a study that is done")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--alias", default="balanced", help="best, balanced or smallest")
    given = parser.parse_args()

    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it says what pip is to be told
    study = Study(read_config(given.study, check_config), given.study)
    model = f"models:/{study.output.name}@{given.alias}"
    mlflow.set_tracking_uri(study.tracking_uri)
    client = MlflowClient()
    version = client.get_model_version_by_alias(study.output.name, given.alias)
    key = client.get_run(version.run_id).data.tags["nas.key"]
    requirements = Path(mlflow.pyfunc.get_model_dependencies(model))

    picture = Image.open(given.picture).convert("RGB") if given.picture else unseen(study)
    prompts = [
        [round(share * picture.size[i % 2]) for i, share in enumerate(prompt)] for prompt in PROMPTS
    ]
    masks, scores = own_answers(study.output / "subnets" / key, picture, prompts)
    say(f"{model} is {key}; the picture is {picture.width} x {picture.height}")
    with tempfile.TemporaryDirectory(prefix="fresh-models-") as folder:
        here = Path(folder)
        job = {"store": study.tracking_uri, "model": model, "prompts": prompts}
        (here / "job.json").write_text(json.dumps(job))
        picture.save(here / "picture.png")
        rows = [*check_mlflow(here, job, requirements), check_onnx(here, study, key)]

    table, right = compare(rows, (masks, scores))
    Console().print(table)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
