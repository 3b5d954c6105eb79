import json

import numpy as np
import pytest
from PIL import Image
from reading import elsewhere, mask_of, noise, pixels_of, read_all, reasons, save

from trainables.data.reader import ReadOptions, object_id
from trainables.data.readers import ade20k, find_reader
from trainables.data.storage import Location

# Walls above and below, a person in two parts of which one hangs on by a corner.
CLASSES = np.zeros((9, 12), dtype=np.uint8)
CLASSES[0] = CLASSES[8] = 1
CLASSES[2:4, 2:4] = CLASSES[4, 4] = CLASSES[6, 9] = 13
NAMES = """Idx\tRatio\tTrain\tVal\tName
1\t0.1576\t11664\t1172\twall
8\t0.0231\t1906\t199\tbed\x20
13\t0.0160\t5075\t526\tperson, individual, someone, somebody, mortal, soul
22\x20\t0.0074\t709\t75\twater
"""


def part(*rows_and_columns):
    mask = np.zeros(CLASSES.shape, dtype=bool)
    for rows, columns in rows_and_columns:
        mask[rows, columns] = True
    return mask


PARTS = {
    ("wall", "1/1"): part((0, slice(None))),
    ("wall", "1/2"): part((8, slice(None))),
    ("person", "13/1"): part((slice(2, 4), slice(2, 4)), (4, 4)),
    ("person", "13/2"): part((6, 9)),
}


@pytest.fixture
def challenge(tmp_path):
    """As ADEChallengeData2016 is published."""
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        save(tmp_path / "images" / split / f"{name}.jpg", noise(9, 12, 3))
        save(tmp_path / "annotations" / split / f"{name}.png", CLASSES)
    (tmp_path / "objectInfo150.txt").write_text(NAMES)
    (tmp_path / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
    return tmp_path


@pytest.fixture
def instances(challenge):
    """With the instance maps of the challenge of 2017: classes 1 (bed) and 4 (person)."""
    values = np.zeros((9, 12, 3), dtype=np.uint8)
    values[2:4, 2:4] = (4, 1, 0)
    values[6, 9] = (4, 2, 0)
    values[5:8, 0:2] = (1, 3, 0)
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        save(challenge / "annotations_instance" / split / f"{name}.png", values)
    return challenge


def full_entry(number, name, level=0):
    return {
        "id": number,
        "name": name,
        "name_ndx": {"car, auto": 401, "sky": 2420, "window": 3050}[name],
        "raw_name": name,
        "parts": {"hasparts": [], "ispartof": [], "part_level": level},
        "polygon": {"x": [1, 2, 3], "y": [1, 2, 3]},
    }


FULL = "images/ADE/training/urban/street/ADE_train_00016869"


@pytest.fixture
def full(tmp_path):
    """As ADE20K_2021_17_01 is published: two cars, the sky, and what the JSON does not name."""
    values = np.zeros((9, 12, 3), dtype=np.uint8)
    values[:2] = (90, 116, 7)  # 9 · 256 + 116 = 2420
    values[3:5, 1:4] = (10, 145, 20)  # 1 · 256 + 145 = 401
    values[3:5, 6:9] = (10, 145, 40)
    values[8, 11] = (0, 5, 60)
    for split, name in (("training", FULL), ("validation", "images/ADE/validation/a/b/ADE_val_1")):
        save(tmp_path / f"{name}.jpg", noise(9, 12, 3))
        save(tmp_path / f"{name}_seg.png", values)
        save(tmp_path / f"{name}_parts_1.png", values)
        stem = name.rpartition("/")[2]
        save(tmp_path / name / f"instance_000_{stem}.png", CLASSES)
        objects = [full_entry(i, n) for i, n in enumerate(["car, auto", "sky", "car, auto"])]
        annotation = {"filename": f"{stem}.jpg", "imsize": [9, 12, 3], "object": objects}
        (tmp_path / f"{name}.json").write_text(json.dumps({"annotation": annotation}))
        assert split in name
    return tmp_path


def test_connected_parts_of_classes_are_objects(challenge):
    pictures, rejected = read_all(ade20k, challenge)
    assert not rejected
    names = ["training/ADE_train_00000001", "validation/ADE_val_00000001"]
    assert list(pictures) == names
    for name, picture in pictures.items():
        found = {o.id: (o.category, mask_of(o)) for o in picture.objects}
        assert len(found) == len(PARTS)
        for (category, key), mask in PARTS.items():
            assert found[object_id(name, key)][0] == category
            assert np.array_equal(found[object_id(name, key)][1], mask)
        assert picture.image == (challenge / "images" / f"{name}.jpg").read_bytes()


def test_instance_maps_come_first(instances):
    pictures, rejected = read_all(ade20k, instances)
    assert not rejected
    for picture in pictures.values():
        found = {(o.category, mask_of(o).sum()) for o in picture.objects}
        assert found == {("person", 4), ("person", 1), ("bed", 6)}


def test_the_full_release(full):
    pictures, rejected = read_all(ade20k, full)
    assert not rejected
    assert list(pictures) == [FULL.removeprefix("images/ADE/"), "validation/a/b/ADE_val_1"]
    for picture in pictures.values():
        found = [(o.category, mask_of(o)) for o in picture.objects]
        assert [category for category, _ in found] == ["class 5", "car", "car", "sky"]
        assert np.array_equal(found[1][1], part((slice(3, 5), slice(1, 4))))
        assert np.array_equal(found[2][1], part((slice(3, 5), slice(6, 9))))
        assert np.array_equal(found[3][1], part((slice(0, 2), slice(None))))
        assert picture.image == (full / f"{FULL}.jpg").read_bytes()


def test_all_three_are_recognised(challenge):
    assert find_reader(Location.at(challenge)) is ade20k


def test_instances_are_recognised(instances):
    assert find_reader(Location.at(instances)) is ade20k


def test_the_full_release_is_recognised(full):
    assert find_reader(Location.at(full)) is ade20k


@pytest.mark.parametrize("kind", ["challenge", "instances", "full"])
def test_only_categories_that_are_asked_for(request, kind):
    folder = request.getfixturevalue(kind)
    wanted = "car" if kind == "full" else "person"
    pictures, rejected = read_all(ade20k, folder, ReadOptions(categories=(wanted,)))
    assert not rejected
    for picture in pictures.values():
        assert [o.category for o in picture.objects] == [wanted] * 2


def test_without_the_list_of_names_classes_have_numbers(challenge):
    (challenge / "objectInfo150.txt").unlink()
    pictures, rejected = read_all(ade20k, challenge)
    assert not rejected
    categories = {o.category for p in pictures.values() for o in p.objects}
    assert categories == {"class 1", "class 13"}


def test_the_hundred_instance_classes_are_among_the_hundred_and_fifty():
    found = ade20k.INSTANCE_CLASSES
    assert len(found) == 100
    assert list(found) == sorted(set(found))
    assert set(found) <= set(range(1, 151))


def test_a_class_that_does_not_exist_is_named_once(challenge):
    values = CLASSES.copy()
    values[2, 8] = values[4, 8] = 151
    save(challenge / "annotations" / "training" / "ADE_train_00000001.png", values)
    pictures, rejected = read_all(ade20k, challenge)
    file = "annotations/training/ADE_train_00000001.png"
    assert reasons(rejected) == [(file, "unknown category")]
    assert rejected[0].detail == "class 151 has no name"
    assert [len(p.objects) for p in pictures.values()] == [4, 4]


def test_a_turned_picture_follows_its_map(challenge):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = challenge / "images" / "training" / "ADE_train_00000001.jpg"
    Image.open(path).save(path, exif=exif)
    stored = np.asarray(Image.open(path))
    pictures, rejected = read_all(ade20k, challenge)
    assert not rejected
    assert np.array_equal(pixels_of(pictures["training/ADE_train_00000001"]), stored)


PICTURE, MAP = (f"{k}/training/ADE_train_00000001" for k in ("images", "annotations"))


def no_map(folder):
    (folder / f"{MAP}.png").unlink()
    return [(f"{PICTURE}.jpg", "picture without annotations")]


def no_picture(folder):
    (folder / f"{PICTURE}.jpg").unlink()
    return [(f"{MAP}.png", "annotation without its picture")]


def broken_picture(folder):
    (folder / f"{PICTURE}.jpg").write_bytes(b"no picture")
    return [(f"{PICTURE}.jpg", "picture can't be read")]


def broken_map(folder):
    (folder / f"{MAP}.png").write_bytes(b"no picture")
    return [(f"{MAP}.png", "mask can't be read")]


def coloured_map(folder):
    save(folder / f"{MAP}.png", noise(9, 12, 3))
    return [(f"{MAP}.png", "mask can't be read")]


def small_map(folder):
    save(folder / f"{MAP}.png", CLASSES[:5])
    return [(f"{MAP}.png", "mask of another size")]


@pytest.mark.parametrize(
    "damage", [no_map, no_picture, broken_picture, broken_map, coloured_map, small_map]
)
def test_a_mistake_is_named_and_the_rest_is_read(challenge, damage):
    expected = damage(challenge)
    pictures, rejected = read_all(ade20k, challenge)
    assert reasons(rejected) == expected
    assert list(pictures) == ["validation/ADE_val_00000001"]


def no_seg(folder):
    (folder / f"{FULL}_seg.png").unlink()
    return [(f"{FULL}.jpg", "picture without annotations")]


def no_json(folder):
    (folder / f"{FULL}.json").unlink()
    return [(f"{FULL}.jpg", "picture without annotations")]


def no_photo(folder):
    (folder / f"{FULL}.jpg").unlink()
    return [(f"{FULL}_seg.png", "annotation without its picture")]


def cut_json(folder):
    path = folder / f"{FULL}.json"
    path.write_bytes(path.read_bytes()[:50])
    return [(f"{FULL}.json", "broken JSON")]


def other_json(folder):
    (folder / f"{FULL}.json").write_text("[1, 2]")
    return [(f"{FULL}.json", "broken JSON")]


def grey_seg(folder):
    save(folder / f"{FULL}_seg.png", CLASSES)
    return [(f"{FULL}_seg.png", "mask can't be read")]


@pytest.mark.parametrize("damage", [no_seg, no_json, no_photo, cut_json, other_json, grey_seg])
def test_a_mistake_in_the_full_release_is_named(full, damage):
    expected = damage(full)
    pictures, rejected = read_all(ade20k, full)
    assert reasons(rejected) == expected
    assert list(pictures) == ["validation/a/b/ADE_val_1"]


def test_any_file_system_will_do(full):
    assert read_all(ade20k, elsewhere(full)) == read_all(ade20k, full)
