import json
import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from reading import (
    compressed,
    elsewhere,
    mask_of,
    noise,
    pixels_of,
    read_all,
    real_data,
    reasons,
    runs_of,
    save,
)

from trainables.data.reader import ReadOptions, object_id
from trainables.data.readers import coco, find_reader
from trainables.data.readers.coco_json import parse
from trainables.data.storage import Location

HEIGHT, WIDTH = 20, 30
SQUARE = [4, 3, 14, 3, 14, 13, 4, 13]
SQUARE_MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
SQUARE_MASK[3:13, 4:14] = True
BLOB = noise(HEIGHT, WIDTH) > 120
CATEGORIES = [{"id": 1, "name": "cell"}, {"id": 7, "name": "dust", "supercategory": "dirt"}]


def image(number, **more):
    name = f"{number:012}.jpg"
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, **more}


def annotation(number, of, segmentation=(SQUARE,), **more):
    fields = {"id": number, "image_id": of, "category_id": 1, "iscrowd": 0, "area": 1.5}
    if segmentation is not None:
        fields["segmentation"] = list(segmentation) if segmentation == (SQUARE,) else segmentation
    return {**fields, "bbox": [1.0, 2.0, 3.0, 4.0], **more}


def write(path, images, annotations, categories=CATEGORIES, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"info": {"year": 2017}, "licenses": [], **more}
    content |= {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path):
    """As COCO is published: two splits, and captions of the same pictures."""
    for split, numbers in (("train2017", (1, 2)), ("val2017", (3,))):
        for number in numbers:
            save(tmp_path / split / f"{number:012}.jpg", noise(HEIGHT, WIDTH, 3, seed=number))
        images = [image(number) for number in numbers]
        objects = [annotation(10 * n, n) for n in numbers]
        write(tmp_path / "annotations" / f"instances_{split}.json", images, objects)
        captions = [{"id": 10 * n, "image_id": n, "caption": "a cell"} for n in numbers]
        write(tmp_path / "annotations" / f"captions_{split}.json", images, captions, [])
    return tmp_path


@pytest.fixture
def one(tmp_path):
    """Writes a data set of one picture, and reads it."""
    save(tmp_path / "images" / image(1)["file_name"], noise(HEIGHT, WIDTH, 3))

    def read(*annotations, options=None, images=(), **more):
        write(tmp_path / "all.json", [image(1), *images], list(annotations), **more)
        return read_all(coco, tmp_path, options)

    return read


def test_the_published_layout(folder):
    pictures, rejected = read_all(coco, folder)
    assert not rejected
    assert list(pictures) == [f"{n:012}.jpg" for n in (1, 2, 3)]
    for name, picture in pictures.items():
        (file,) = folder.glob(f"*/{name}")
        assert picture.image == file.read_bytes()
        (found,) = picture.objects
        assert np.array_equal(mask_of(found), SQUARE_MASK)
        assert found.category == "cell"
        assert found.id == object_id(name, 10 * int(name[:12]))


@pytest.mark.parametrize("below", ["", "images", "data", "images/data", "annotations"])
def test_pictures_are_found_where_people_put_them(tmp_path, below):
    save(tmp_path / below / "000000000001.jpg", noise(HEIGHT, WIDTH, 3))
    path = write(tmp_path / "annotations" / "instances_data.json", [image(1)], [annotation(5, 1)])
    for place in (tmp_path, path):
        pictures, rejected = read_all(coco, place)
        assert not rejected
        assert list(pictures) == ["000000000001.jpg"]
        assert find_reader(Location.at(place)) is coco


@pytest.mark.parametrize("name", ["../photos/a.jpg", "photos/a.jpg", "photos\\a.jpg"])
def test_names_with_folders_are_found(tmp_path, name):
    save(tmp_path / "photos" / "a.jpg", noise(HEIGHT, WIDTH, 3))
    path = tmp_path / ("labels/x.json" if name.startswith("..") else "x.json")
    write(path, [image(1, file_name=name)], [annotation(5, 1)])
    pictures, rejected = read_all(coco, path)
    assert not rejected
    assert list(pictures) == [name]


@pytest.mark.parametrize("kind", ["polygon", "runs", "compressed"])
def test_every_kind_of_mask_is_exact(one, kind):
    segmentation = {
        "polygon": [SQUARE],
        "runs": {"size": [HEIGHT, WIDTH], "counts": runs_of(BLOB)},
        "compressed": compressed(BLOB),
    }[kind]
    pictures, rejected = one(annotation(5, 1, segmentation))
    assert not rejected
    (picture,) = pictures.values()
    (found,) = picture.objects
    assert np.array_equal(mask_of(found), SQUARE_MASK if kind == "polygon" else BLOB)


def test_a_polygon_of_several_parts_is_their_union(one):
    other = [20.0, 1.0, 28.0, 1.0, 28.0, 9.0]
    pictures, _ = one(annotation(5, 1, [SQUARE, other, [1, 2, 3, 4]]))
    (picture,) = pictures.values()
    (found,) = picture.objects
    expected = coco_mask.decode(coco_mask.frPyObjects([SQUARE, other], HEIGHT, WIDTH)).any(axis=2)
    assert np.array_equal(mask_of(found), expected)
    assert SQUARE_MASK.sum() < expected.sum()


def test_a_polygon_with_one_leg_outside_is_clipped(one):
    pictures, _ = one(annotation(5, 1, [[-50, 3, 14, 3, 14, 13, -50, 13]]))
    (picture,) = pictures.values()
    mask = mask_of(picture.objects[0])
    assert mask[3:13, :14].all()
    assert mask.sum() == 140


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (annotation(5, 1, iscrowd=1), "crowd"),
        (annotation(5, 1, compressed(BLOB), iscrowd=1), "crowd"),
        (annotation(5, 1, None), "without a mask"),
        (annotation(5, 1, []), "without a mask"),
        (annotation(5, 1, compressed(BLOB & False)), "empty"),
        (annotation(5, 1, {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}), "empty"),
        (annotation(5, 1, [[]]), "empty"),
        (annotation(5, 1, [[3, 3, 9, 9]]), "empty"),
        (annotation(5, 1, [[40, 3, 50, 3, 50, 13]]), "outside the picture"),
        (annotation(5, 1, [[-40, 3, -50, 3, -50, 13]]), "outside the picture"),
        (annotation(5, 1, [[4, 30, 9, 30, 9, 1e9]]), "outside the picture"),
        (annotation(6, 1), "given twice"),
    ],
)
def test_what_is_no_object_to_learn_from_is_counted(one, wrong, reason):
    pictures, rejected = one(annotation(6, 1), wrong)
    assert not rejected
    (picture,) = pictures.values()
    assert picture.dropped == {reason: 1}
    assert np.array_equal([mask_of(o) for o in picture.objects], [SQUARE_MASK])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (annotation(5, 1, category_id=3), "unknown category"),
        (annotation(5, 99), "annotation without its picture"),
        (annotation(5, 1, compressed(BLOB.T)), "mask of another size"),
        (annotation(5, 1, {"size": [1, 2], "counts": [2]}), "mask of another size"),
        (annotation(5, 1, {"counts": [600]}), "mask of another size"),
        (annotation(5, 1, {"size": [HEIGHT, WIDTH], "counts": [1, 2, 3]}), "broken annotation"),
        (annotation(5, 1, {"size": [HEIGHT, WIDTH], "counts": [700, -100]}), "broken annotation"),
        (annotation(5, 1, {"size": [HEIGHT, WIDTH], "counts": None}), "broken annotation"),
        (annotation(5, 1, {"size": [HEIGHT, WIDTH], "counts": "zzz"}), "broken annotation"),
        (annotation(5, 1, {"size": [HEIGHT, WIDTH], "counts": "11"}), "broken annotation"),
        (annotation(5, 1, {"size": [HEIGHT, WIDTH], "counts": "é"}), "broken annotation"),
        (annotation(5, 1, [[1, 2, 3, 4, 5, 6, 7]]), "broken annotation"),
        (annotation(5, 1, [["a", 2, 3, 4, 5, 6]]), "broken annotation"),
        (annotation(5, 1, [1, 2, 3, 4, 5, 6]), "broken annotation"),
        (annotation(5, 1, [[1, 2, 3, 4, 1e12, 6]]), "broken annotation"),
        (annotation(5, 1, "here"), "broken annotation"),
        ({"id": 5, "category_id": 1}, "broken annotation"),
        (annotation(5, [1]), "broken annotation"),
        ("annotation", "broken annotation"),
    ],
)
def test_a_broken_annotation_is_named_and_the_rest_is_read(one, wrong, reason):
    pictures, rejected = one(annotation(6, 1), wrong)
    assert [entry.reason for entry in rejected] == [reason]
    (picture,) = pictures.values()
    assert np.array_equal([mask_of(o) for o in picture.objects], [SQUARE_MASK])
    assert not picture.dropped


@pytest.mark.parametrize(
    "wrong", [{"id": 2}, {"file_name": "a.jpg"}, {"id": 2, "file_name": 3}, 7, image(1, width=3)]
)
def test_a_broken_entry_of_images_is_named(one, wrong):
    pictures, rejected = one(annotation(6, 1), images=[wrong])
    assert reasons(rejected) == [("all.json", "broken annotation")]
    assert len(pictures) == 1


def test_pictures_without_annotations_are_pictures(folder):
    write(folder / "annotations" / "instances_train2017.json", [image(1), image(2)], [])
    pictures, rejected = read_all(coco, folder)
    assert not rejected
    assert [len(p.objects) for p in pictures.values()] == [0, 0, 1]


def test_only_categories_that_are_asked_for(one):
    objects = [annotation(5, 1), annotation(6, 1, category_id=7), annotation(7, 1, category_id=3)]
    pictures, rejected = one(*objects, options=ReadOptions(categories=("dust",)))
    (picture,) = pictures.values()
    assert [o.category for o in picture.objects] == ["dust"]
    assert not picture.dropped
    assert [entry.reason for entry in rejected] == ["unknown category"]


def test_several_files_add_to_one_picture(folder):
    """Each numbers its objects from 1."""
    for name in ("a", "b"):
        path = folder / f"{name}.json"
        box = [1, 1, 9, 1, 9, 9] if name == "b" else SQUARE
        write(path, [image(4, file_name="x.png")], [annotation(1, 4, [box]), annotation(2, 4)])
    for path in (folder / "annotations").iterdir():
        path.unlink()
    save(folder / "x.png", noise(HEIGHT, WIDTH, 3))
    pictures, rejected = read_all(coco, folder)
    assert not rejected
    (picture,) = pictures.values()
    assert len(picture.objects) == 3
    assert picture.dropped == {"given twice": 1}
    ids = [object_id("x.png", name) for name in ("1", "2", "1#2")]
    assert [o.id for o in picture.objects] == ids


def test_a_name_in_two_splits_is_two_pictures(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / split / "1.png", noise(HEIGHT, WIDTH, 3))
        path = tmp_path / "annotations" / f"instances_{split}.json"
        write(path, [image(1, file_name="1.png")], [annotation(1, 1)])
    pictures, rejected = read_all(coco, tmp_path)
    assert not rejected
    assert list(pictures) == ["train/1.png", "val/1.png"]


def test_a_missing_picture_is_named_once_with_its_annotations(folder):
    (folder / "train2017" / "000000000002.jpg").unlink()
    pictures, rejected = read_all(coco, folder)
    assert reasons(rejected) == [("000000000002.jpg", "picture missing")]
    assert rejected[0].detail == "annotations/instances_train2017.json lists it, with 1 annotations"
    assert len(pictures) == 2


def test_a_broken_picture_is_named(folder):
    path = folder / "train2017" / "000000000002.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    pictures, rejected = read_all(coco, folder)
    assert reasons(rejected) == [("train2017/000000000002.jpg", "picture can't be read")]
    assert len(pictures) == 2


def test_a_picture_of_another_size_is_named(folder):
    save(folder / "train2017" / "000000000002.jpg", noise(HEIGHT, WIDTH + 1, 3))
    pictures, rejected = read_all(coco, folder)
    assert reasons(rejected) == [("train2017/000000000002.jpg", "picture of another size")]
    assert rejected[0].detail == "it is 31×20 pixels, its annotations speak of 30×20"
    assert len(pictures) == 2


def test_sizes_tell_whether_a_picture_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = noise(HEIGHT, WIDTH, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    for size, expected in (
        ((HEIGHT, WIDTH), pixels),
        ((WIDTH, HEIGHT), np.rot90(pixels, -1)),
        ((None, None), np.rot90(pixels, -1)),
    ):
        entry = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
        write(tmp_path / "x.json", [entry], [annotation(5, 1)])
        pictures, rejected = read_all(coco, tmp_path)
        assert not rejected
        assert np.array_equal(pixels_of(pictures["a.png"]), expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_is_cut_off_is_named_and_nothing_of_it_is_used(folder, share):
    path = folder / "annotations" / "instances_train2017.json"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    pictures, rejected = read_all(coco, folder)
    assert reasons(rejected) == [("annotations/instances_train2017.json", "broken JSON")]
    assert rejected[0].detail == "parse error: premature EOF"
    assert list(pictures) == ["000000000003.jpg"]


@pytest.mark.parametrize("content", [b"[1, 2]", b'{"a": 1}', b"\xff\xfe", b'{"images": [NaN]}'])
def test_what_is_no_coco_is_named(folder, content):
    (folder / "annotations" / "instances_train2017.json").write_bytes(content)
    pictures, rejected = read_all(coco, folder)
    assert [entry.reason for entry in rejected] == ["broken JSON"]
    assert len(pictures) == 1


def test_other_json_files_are_not_taken_for_coco(tmp_path):
    assert not coco.recognises(Location.at(tmp_path))
    for content in ('{"a": {"images": []}}', "[]", "no json", '{"image": {}, "annotations": []}'):
        (tmp_path / "x.json").write_text(content)
        assert not coco.recognises(Location.at(tmp_path))
    for content in ('{"info": {}, "images": [', '{"categories": []}', '{"annotations": [{}'):
        (tmp_path / "x.json").write_text(content)
        assert coco.recognises(Location.at(tmp_path))


def test_items_are_small_enough_to_send(folder):
    place = Location.at(folder)
    for item in coco.items(place, ReadOptions()):
        assert pickle.loads(pickle.dumps(item)) == item
        assert len(pickle.dumps(item)) < 1000


def test_a_file_takes_about_its_own_size_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    polygons = rng.uniform(0, 500, (1500, 60)).round(2).tolist()
    objects = [annotation(i, i // 8, [p]) for i, p in enumerate(polygons)]
    path = write(tmp_path / "x.json", [image(i) for i in range(200)], objects)
    tracemalloc.start()
    content = parse(Location.at(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(content.annotations) == 1500
    assert peak < 1.5 * path.stat().st_size


@pytest.mark.parametrize(("split", "photos", "objects"), [("train", 109, 973), ("val", 107, 799)])
def test_real_photos(split, photos, objects):
    folder = real_data("coco")
    pictures, rejected = read_all(coco, folder / f"instances_{split}.json")
    assert not rejected
    assert len(pictures) == photos
    found = sum(len(p.objects) + sum(p.dropped.values()) for p in pictures.values())
    assert found == objects
    content = json.loads((folder / f"instances_{split}.json").read_text())
    areas = {a["id"]: a["area"] for a in content["annotations"]}
    names = {i["id"]: i["file_name"] for i in content["images"]}
    keys = {object_id(names[a["image_id"]], a["id"]): a["id"] for a in content["annotations"]}
    for picture in pictures.values():
        for each in picture.objects:
            area = areas[keys[each.id]]
            assert abs(int(coco_mask.area(each.rle)) - area) <= 0.15 * area + 60


def test_all_real_photos_together():
    place = Location.at(real_data("coco"))
    assert find_reader(place) is coco
    items = list(coco.items(place, ReadOptions()))
    assert len(items) == 216
    assert len({item.group for item in items}) == 216


def test_any_file_system_will_do(folder):
    assert read_all(coco, elsewhere(folder)) == read_all(coco, folder)
