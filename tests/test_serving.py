"""A subnet as MLflow serves it: logged, loaded, asked."""

import io
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from tiny import CONFIG, random_subnets, synthetic_picture, tiny_sam

from automl.sam import logged_model, serving
from trainables.sam.segment_anything_import import SamPredictor
from trainables.sam.standalone import extract, load_subnet, save_subnet

BOX, POINT = [5, 5, 40, 50], [20, 30]


@pytest.fixture(scope="module")
def subnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, (subnet, *_) = tmp_path_factory.mktemp("subnet"), random_subnets(1)
    save_subnet(extract(tiny_sam(), CONFIG, subnet), CONFIG, subnet, folder)
    return folder


@pytest.fixture(scope="module")
def model(subnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("served") / "model"
    mlflow.pyfunc.save_model(
        path,
        python_model=serving.__file__,
        artifacts={"subnet": str(subnet)},
        pip_requirements=logged_model.requirements(),
        signature=logged_model.SIGNATURE,
    )
    return mlflow.pyfunc.load_model(str(path))


def encoded(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURES = [synthetic_picture(np.random.default_rng(i), 90, 60, objects=2)[0] for i in range(2)]


@pytest.mark.filterwarnings("ignore:.*An input example was not provided")
@pytest.mark.parametrize("kind", [list, np.array, np.float32, lambda box: [float(x) for x in box]])
def test_boxes_and_points_of_several_pictures_in_one_table(
    subnet: Path, model: Any, kind: Any
) -> None:
    prompts = [{"box": kind(BOX)}, {"point": kind(POINT)}]
    asked = [(pixels, prompt) for pixels in PICTURES for prompt in prompts]
    rows = [{"image": encoded(pixels), **prompt} for pixels, prompt in asked]
    predictor = SamPredictor(load_subnet(subnet))
    for answer, (pixels, prompt) in zip(model.predict(rows).to_dict("records"), asked, strict=True):
        own = {"box": np.array(BOX)}
        if "point" in prompt:
            own = {"point_coords": np.array([POINT]), "point_labels": np.array([1])}
        predictor.set_image(pixels)
        masks, scores, _ = predictor.predict(**own)
        size = [answer["height"], answer["width"]]
        mask = coco_mask.decode({"size": size, "counts": answer["mask"].encode()})
        assert np.array_equal(mask, masks[scores.argmax()])
        assert answer["score"] == scores.max()


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ({}, ""),
        ({"box": None, "point": []}, ""),
        ({"box": [1, 2]}, ", not [1, 2]"),
        ({"point": [1.0, 2.0, 3.0]}, ", not [1.0, 2.0, 3.0]"),
        ({"box": "5 5 40 50"}, ", not '5 5 40 50'"),
    ],
)
def test_a_prompt_that_is_none_is_said_in_one_line(
    model: Any, prompt: dict[str, Any], shown: str
) -> None:
    wanted = f"a row needs a box [x0, y0, x1, y1] or a point [x, y]{shown}"
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}$"):
        model.predict([{"image": encoded(PICTURES[0]), **prompt}])


def test_what_a_model_requires_is_on_an_index() -> None:
    for requirement in logged_model.requirements():
        assert re.fullmatch(r"[a-z-]+==[0-9][0-9a-z.]*", requirement)


def test_a_local_version_is_not_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert "torch==2.13.0" in logged_model.requirements()
