import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from reading import noise, read_all, save
from tiny import SPACE, picture_row

from search_spaces import InputError
from trainables.data.json_depth import Depth
from trainables.data.pictures import Pictures
from trainables.data.prepare import prepare
from trainables.data.readers import coco, sa1b
from trainables.data.splits import SplitRule
from trainables.data.table import SCHEMA, decode_masks
from trainables.supernet import STATE, TrainingSettings, load_checkpoint, make_optimiser

H, W = 8, 10
SQUARE = [[1.0, 1.0, 6.0, 1.0, 6.0, 6.0, 1.0, 6.0]]


def coco_of(folder: Path, names: list[str], segmentation: object = SQUARE) -> Path:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "segmentation": segmentation}
        for i in range(len(names))
    ]
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "../<script>"}]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / "instances_a.json").write_text(json.dumps(content))
    return folder


def test_names_of_pictures_do_not_leave_the_data_set(tmp_path):
    save(tmp_path / "outside.png", noise(H, W, 3))
    save(tmp_path / "set2" / "outside.png", noise(H, W, 3))
    folder = tmp_path / "set"
    save(folder / "images" / "in.png", noise(H, W, 3))
    names = [
        "../outside.png",
        "../../outside.png",
        "..\\..\\outside.png",
        "../set2/outside.png",
        "../../set2/outside.png",
        f"{tmp_path}/outside.png",
        "../../../../../../etc/passwd",
        "..",
    ]
    found, rejected = read_all(coco, coco_of(folder, [*names, "../images/in.png", "a/../in.png"]))
    assert set(found) == {"images/in.png"} or len(found) == 1
    assert [entry.file for entry in rejected] == names
    assert "outside the data set's folder are not read" in rejected[0].detail
    # A file that is given itself: the folder above its own is the data set's.
    found, rejected = read_all(coco, folder / "annotations" / "instances_a.json")
    assert len(found) == 1
    assert [entry.file for entry in rejected] == names


def test_names_from_data_make_no_files(tmp_path):
    folder = tmp_path / "deep" / "set"
    names = [f"x/..//{'../' * i}p{i}.png" for i in range(12)]
    for i in range(12):
        save(folder / "images" / f"p{i}.png", noise(H, W, 3, seed=i))
    coco_of(folder, [f"sub/../p{i}.png" for i in range(12)] + names)
    before = set(tmp_path.rglob("*"))
    target = tmp_path / "deep" / "out"
    prepare(folder, target, rule=SplitRule(0.25, 0.25))
    assert {path.parent for path in set(tmp_path.rglob("*")) - before} <= {target, target.parent}
    rows = pq.read_table(target / "train.parquet").to_pylist()
    assert rows[0]["objects"][0]["category"] == "../<script>"


@pytest.mark.parametrize("depth", [500, 3_000, 100_000])
def test_json_that_is_nested_without_an_end_is_one_line(tmp_path, depth):
    save(tmp_path / "coco" / "a.png", noise(H, W, 3))
    folder = coco_of(tmp_path / "coco", ["a.png"])
    file = folder / "annotations" / "instances_a.json"
    deep = "[" * depth + "]" * depth
    file.write_text(file.read_text().replace(json.dumps(SQUARE), deep))
    found, rejected = read_all(coco, folder)
    assert not any(picture.objects for picture in found.values())
    assert [entry.detail for entry in rejected] == ["it is nested more than 64 deep"]
    save(tmp_path / "sa" / "sa_1.jpg", noise(H, W, 3))
    text = json.dumps({"image": {"height": H, "width": W}, "annotations": [1]})
    (tmp_path / "sa" / "sa_1.json").write_text(text.replace("[1]", deep))
    found, rejected = read_all(sa1b, tmp_path / "sa")
    assert len(rejected) == 1


@given(st.lists(st.sampled_from(["[", "]", "{", "}", '"', "\\", "a", ","])).map("".join), st.data())
def test_depth_is_counted_as_a_parser_does(text, data):
    depth = most = 0
    inside = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == '"':
            inside = not inside
        elif inside:
            escaped = character == "\\"
        else:
            depth += (character in "[{") - (character in "]}")
            most = max(most, depth)
    # Outside of strings there are no escapes in JSON.
    assume(not any(part.endswith("\\") or "\\" in part for part in outside(text)))
    cut = data.draw(st.integers(0, len(text)))
    found = Depth()
    parts = [found.deepest(part.encode()) for part in (text[:cut], text[cut:])]
    assert max(0, *parts) == most


def outside(text: str) -> list[str]:
    """What of a text is not within strings."""
    return re.split(r'"(?:[^"\\]|\\.)*(?:"|$)', text)


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_whole_numbers_without_bound_are_a_broken_mask(tmp_path, number):
    counts = {"size": [H, W], "counts": [number, H * W - number]}
    for segmentation, why in (
        ([[1, 1, 6, 1, 6, number]], "far outside"),
        (counts, "not between 0"),
    ):
        save(tmp_path / "sa_1.jpg", noise(H, W, 3))
        annotations = [{"id": 1, "segmentation": segmentation}]
        content = {"image": {"height": H, "width": W}, "annotations": annotations}
        (tmp_path / "sa_1.json").write_text(json.dumps(content))
        _, rejected = read_all(sa1b, tmp_path)
        assert [entry.reason for entry in rejected] == ["broken annotation"]
        assert why in rejected[0].detail
    (tmp_path / "coco").mkdir()
    save(tmp_path / "coco" / "a.png", noise(H, W, 3))
    folder = coco_of(tmp_path / "coco", ["a.png"], [[1, 1, 6, 1, 6, number]])
    assert [entry.reason for entry in read_all(coco, folder)[1]] == ["broken JSON"]


def split(path: Path, **changed: object) -> Path:
    """A prepared split of one picture, some of whose values, or columns' types, are others."""
    labels = np.zeros((H, W), np.uint8)
    labels[2:5, 3:7] = 1
    row = picture_row("p", noise(H, W, 3), labels)
    kinds = {name: value for name, value in changed.items() if isinstance(value, pa.DataType)}
    values = {name: value for name, value in changed.items() if name not in kinds}
    if "rle" in values:
        row["objects"][0]["rle"] = values.pop("rle")
    row |= values
    schema = pa.schema([(f.name, kinds.get(f.name, f.type)) for f in SCHEMA])
    row = {name: [1.5] if name in kinds else value for name, value in row.items()}
    pq.write_table(pa.Table.from_pylist([row], schema=schema), path)
    return path


def counts_of(*runs: int) -> str:
    rle = coco_mask.frPyObjects({"size": [1, sum(runs)], "counts": list(runs)}, 1, sum(runs))
    return str(rle["counts"].decode())


@pytest.mark.parametrize(
    ("rle", "why"),
    [
        (counts_of(10, 20), "sum to 30, not to 80"),
        (counts_of(10, 2**31 - 100), "not between 0 and its 80"),
        ("\xff", "can't encode"),
        ("", "no text of COCO's"),
        ("PPPPPPPPPPPPPPPPPPPPPPPPP0", "number too large"),
    ],
)
def test_run_lengths_of_a_shard_are_checked(tmp_path, rle, why):
    picture = Pictures(split(tmp_path / "train.parquet", rle=rle))[0]
    with pytest.raises(InputError, match="the mask of object 1 is broken: ") as caught:
        picture.masks()
    assert why in str(caught.value)
    assert Pictures(split(tmp_path / "whole.parquet"))[0].masks().sum() == 12


def test_decoding_a_mask_checks_it_first():
    with pytest.raises(InputError, match="sum to 30"):
        decode_masks([{"rle": counts_of(10, 20)}], H, W)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"image": pa.list_(pa.float64())}, "column 'image' is list<"),
        ({"objects": pa.list_(pa.float64())}, "column 'objects' is list<"),
        ({"image": None}, "picture 0 can't be decoded: it is in no format"),
        ({"image": b"not a picture"}, "picture 0 can't be decoded: it is in no format"),
        ({"objects": [None]}, "damaged"),
        ({"objects": [{"id": 1, "box": [1.0] * 4, "rle": None}]}, "an object lacks a value"),
    ],
)
def test_shards_of_another_kind_are_one_line(tmp_path, changed, why):
    path = split(tmp_path / "train.parquet", **changed)
    with pytest.raises(InputError, match=r"train\.parquet") as caught:
        Pictures(path)[0].masks()
    assert why in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", [float("inf"), None, "x", []])
def test_a_state_that_is_none_is_one_line(tmp_path, supernet, step):
    optimiser = make_optimiser(supernet, TrainingSettings())
    (tmp_path / STATE).write_text(json.dumps({"step": step, "space_key": SPACE.key}))
    with pytest.raises(InputError, match=r"state\.json is damaged"):
        load_checkpoint(supernet, optimiser, SPACE, tmp_path)


def test_half_a_character_in_a_name_is_read(tmp_path):
    save(tmp_path / "sa_1.jpg", noise(H, W, 3))
    annotations = [{"id": "\ud800", "segmentation": SQUARE}]
    content = {"image": {"height": H, "width": W}, "annotations": annotations}
    (tmp_path / "sa_1.json").write_text(json.dumps(content))
    found, rejected = read_all(sa1b, tmp_path)
    assert not rejected
    assert len(found["sa_1"].objects) == 1
