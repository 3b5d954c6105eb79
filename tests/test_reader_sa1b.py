import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from reading import elsewhere, mask_of, noise, pixels_of, read_all, reasons, save

from trainables.data.reader import ReadOptions, object_id
from trainables.data.readers import find_reader, sa1b
from trainables.data.storage import Location

HEIGHT, WIDTH = 24, 36
MASKS = [noise(HEIGHT, WIDTH, seed=i) > 60 * (i + 1) for i in range(3)]


def entry(number, mask):
    """An annotation with every field that SA-1B publishes."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "predicted_iou": 0.97,
        "stability_score": 0.96,
        "crop_box": [0.0, 0.0, float(WIDTH), float(HEIGHT)],
        "point_coords": [[3.5, 4.5]],
    }


def write(path, number, masks=MASKS, seed=0):
    path.mkdir(parents=True, exist_ok=True)
    name = f"sa_{number}.jpg"
    save(path / name, noise(HEIGHT, WIDTH, 3, seed=seed))
    image = {"image_id": number, "width": WIDTH, "height": HEIGHT, "file_name": name}
    annotations = [entry(537_000_000 + 10 * number + i, mask) for i, mask in enumerate(masks)]
    content = {"image": image, "annotations": annotations}
    (path / f"sa_{number}.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "sa_000000", 1, seed=1)
    write(tmp_path / "sa_000000", 2, MASKS[:1], seed=2)
    write(tmp_path / "sa_000001", 11, seed=11)
    return tmp_path


def change(path, **fields):
    content = json.loads(path.read_text())
    for name, value in fields.items():
        section, _, field = name.partition("__")
        if field:
            target = content[section] if section == "image" else content[section][0]
            target[field] = value
        else:
            content[section] = value
    path.write_text(json.dumps(content))


def test_the_published_layout(folder):
    pictures, rejected = read_all(sa1b, folder)
    assert not rejected
    assert list(pictures) == ["sa_000000/sa_1", "sa_000000/sa_2", "sa_000001/sa_11"]
    for name, picture in pictures.items():
        assert picture.image == (folder / f"{name}.jpg").read_bytes()
        assert {o.category for o in picture.objects} == {"object"}
        assert not picture.dropped
    assert np.array_equal([mask_of(o) for o in pictures["sa_000001/sa_11"].objects], MASKS)
    ids = [object_id("sa_000000/sa_1", 537_000_010 + i) for i in range(3)]
    assert [o.id for o in pictures["sa_000000/sa_1"].objects] == ids


def test_one_folder_alone(folder):
    place = folder / "sa_000000"
    assert list(read_all(sa1b, place)[0]) == ["sa_1", "sa_2"]
    for data in (folder, place):
        assert find_reader(Location.at(data)) is sa1b


def test_objects_that_are_not_asked_for_are_not_there(folder):
    pictures, rejected = read_all(sa1b, folder, ReadOptions(categories=("cell",)))
    assert ([len(p.objects) for p in pictures.values()], rejected) == ([0, 0, 0], [])


def test_empty_masks_are_counted(folder):
    write(folder / "sa_000000", 2, [MASKS[0], MASKS[0] & False])
    pictures, rejected = read_all(sa1b, folder)
    assert not rejected
    assert pictures["sa_000000/sa_2"].dropped == {"empty": 1}


def test_the_size_tells_whether_a_picture_is_turned(folder):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = folder / "sa_000000" / "sa_1.jpg"
    Image.open(path).save(path, exif=exif)
    stored = np.asarray(Image.open(path))
    pictures, rejected = read_all(sa1b, folder)
    assert not rejected
    assert np.array_equal(pixels_of(pictures["sa_000000/sa_1"]), stored)


NAME = "sa_000000/sa_1"


def no_json(folder):
    (folder / f"{NAME}.json").unlink()
    return [(f"{NAME}.jpg", "picture without annotations")]


def no_picture(folder):
    (folder / f"{NAME}.jpg").unlink()
    return [(f"{NAME}.json", "annotation without its picture")]


def two_pictures(folder):
    save(folder / f"{NAME}.png", noise(HEIGHT, WIDTH, 3))
    return [(f"{NAME}.{suffix}", "name given twice") for suffix in ("jpg", "png")]


def cut_json(folder):
    path = folder / f"{NAME}.json"
    path.write_bytes(path.read_bytes()[:-9])
    return [(f"{NAME}.json", "broken JSON")]


def no_text(folder):
    (folder / f"{NAME}.json").write_bytes(b"\xff\xfe\xfd")
    return [(f"{NAME}.json", "broken JSON")]


def no_size(folder):
    change(folder / f"{NAME}.json", image={"file_name": "sa_1.jpg"})
    return [(f"{NAME}.json", "broken JSON")]


def no_list(folder):
    change(folder / f"{NAME}.json", annotations=7)
    return [(f"{NAME}.json", "broken JSON")]


def cut_picture(folder):
    path = folder / f"{NAME}.jpg"
    path.write_bytes(path.read_bytes()[:-99])
    return [(f"{NAME}.jpg", "picture can't be read")]


def another_size(folder):
    save(folder / f"{NAME}.jpg", noise(HEIGHT + 1, WIDTH, 3))
    return [(f"{NAME}.jpg", "picture of another size")]


@pytest.mark.parametrize(
    "damage",
    [
        no_json,
        no_picture,
        two_pictures,
        cut_json,
        no_text,
        no_size,
        no_list,
        cut_picture,
        another_size,
    ],
)
def test_a_mistake_is_named_and_the_rest_is_read(folder, damage):
    expected = damage(folder)
    pictures, rejected = read_all(sa1b, folder)
    assert reasons(rejected) == expected
    assert list(pictures) == ["sa_000000/sa_2", "sa_000001/sa_11"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"annotations__segmentation": {"size": [3, 4], "counts": "04"}}, "mask of another size"),
        (
            {"annotations__segmentation": {"size": [HEIGHT, WIDTH], "counts": "04"}},
            "broken annotation",
        ),
        ({"annotations__segmentation": None}, "broken annotation"),
        ({"annotations__id": 537_000_011}, "broken annotation"),
    ],
)
def test_a_broken_annotation_is_named_and_the_others_are_read(folder, fields, reason):
    change(folder / f"{NAME}.json", **fields)
    pictures, rejected = read_all(sa1b, folder)
    assert reasons(rejected) == [(f"{NAME}.json", reason)]
    assert len(pictures[NAME].objects) == 2


@pytest.mark.parametrize("wrong", [7, {}, {"id": 5}])
def test_what_is_no_annotation_is_named(folder, wrong):
    change(folder / f"{NAME}.json", annotations=[wrong, entry(3, MASKS[0])])
    pictures, rejected = read_all(sa1b, folder)
    assert reasons(rejected) == [(f"{NAME}.json", "broken annotation")]
    assert np.array_equal(mask_of(pictures[NAME].objects[0]), MASKS[0])


def test_any_file_system_will_do(folder):
    assert read_all(sa1b, elsewhere(folder)) == read_all(sa1b, folder)
