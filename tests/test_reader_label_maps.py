import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from reading import elsewhere, mask_of, noise, pixels_of, read_all, real_data, reasons, save

from search_spaces.errors import InputError
from trainables.data.reader import ReadOptions
from trainables.data.readers import READERS, find_reader, label_maps
from trainables.data.storage import Location

LABELS = np.array([[0, 1, 1, 0], [2, 2, 0, 0], [0, 0, 0, 7]], dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(["b", "a"]):
        save(tmp_path / "images" / f"{name}.png", noise(3, 4, 3, seed=i))
        save(tmp_path / "labels" / f"{name}.png", LABELS)
    return tmp_path


def test_each_number_is_an_object(folder):
    pictures, rejected = read_all(label_maps, folder)
    assert list(pictures) == ["a", "b"]
    assert not rejected
    for name, picture in pictures.items():
        assert np.array_equal(pixels_of(picture), Image.open(folder / "images" / f"{name}.png"))
        assert picture.image == (folder / "images" / f"{name}.png").read_bytes()
        assert [
            np.array_equal(mask_of(o), n == LABELS)
            for o, n in zip(picture.objects, [1, 2, 7], strict=True)
        ] == [True] * 3
        assert {o.category for o in picture.objects} == {"object"}
        assert not picture.dropped


def test_ids_never_change(folder):
    """Prompts and splits follow from them."""
    pictures, _ = read_all(label_maps, folder)
    for name, picture in pictures.items():
        digests = [
            hashlib.blake2b(f"{name}/{n}".encode(), digest_size=8).digest() for n in (1, 2, 7)
        ]
        assert [o.id for o in picture.objects] == [int.from_bytes(d, "big") >> 1 for d in digests]
    assert [item.group for item in label_maps.items(Location.at(folder), ReadOptions())] == [
        "a",
        "b",
    ]


def test_sixteen_bits_and_palettes_keep_their_numbers(folder):
    deep = LABELS.astype(np.uint16) * 300
    Image.fromarray(deep).save(folder / "labels" / "a.png")
    palette = Image.fromarray(LABELS, mode="P")
    palette.putpalette([5] * 30)
    palette.save(folder / "labels" / "b.png")
    pictures, rejected = read_all(label_maps, folder)
    assert not rejected
    for picture in pictures.values():
        assert len(picture.objects) == 3


def test_an_empty_map_is_a_picture_without_objects(folder):
    save(folder / "labels" / "a.png", np.zeros((3, 4), np.uint8))
    pictures, rejected = read_all(label_maps, folder)
    assert (len(pictures["a"].objects), len(pictures["b"].objects), rejected) == (0, 3, [])


def test_objects_that_are_not_asked_for_are_not_there(folder):
    pictures, _ = read_all(label_maps, folder, ReadOptions(categories=("cell",)))
    assert [len(p.objects) for p in pictures.values()] == [0, 0]


def test_a_picture_that_the_map_sees_as_stored_is_not_turned(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(3, 4, 3)).save(folder / "images" / "a.png", exif=exif)
    pictures, rejected = read_all(label_maps, folder)
    assert not rejected
    assert np.array_equal(pixels_of(pictures["a"]), noise(3, 4, 3))
    save(folder / "labels" / "a.png", LABELS.T)
    pictures, rejected = read_all(label_maps, folder)
    assert np.array_equal(pixels_of(pictures["a"]), np.rot90(noise(3, 4, 3), -1))


def without_map(folder):
    (folder / "labels" / "a.png").unlink()
    return [("images/a.png", "picture without annotations")]


def without_picture(folder):
    (folder / "images" / "a.png").unlink()
    return [("labels/a.png", "annotation without its picture")]


def two_pictures(folder):
    save(folder / "images" / "a.bmp", noise(3, 4, 3))
    return [("images/a.bmp", "name given twice"), ("images/a.png", "name given twice")]


def two_maps(folder):
    save(folder / "labels" / "a.tif", LABELS)
    return [("labels/a.png", "name given twice"), ("labels/a.tif", "name given twice")]


def map_of_another_size(folder):
    save(folder / "labels" / "a.png", LABELS[:2])
    return [("labels/a.png", "mask of another size")]


def coloured_map(folder):
    save(folder / "labels" / "a.png", noise(3, 4, 3))
    return [("labels/a.png", "mask can't be read")]


def fractional_map(folder):
    (folder / "labels" / "a.png").unlink()
    Image.fromarray(LABELS.astype(np.float32)).save(folder / "labels" / "a.tif")
    return [("labels/a.tif", "mask can't be read")]


def broken_map(folder):
    (folder / "labels" / "a.png").write_bytes(b"no picture")
    return [("labels/a.png", "mask can't be read")]


def cut_picture(folder):
    path = folder / "images" / "a.png"
    path.write_bytes(path.read_bytes()[:-30])
    return [("images/a.png", "picture can't be read")]


@pytest.mark.parametrize(
    "damage",
    [
        without_map,
        without_picture,
        two_pictures,
        two_maps,
        map_of_another_size,
        coloured_map,
        fractional_map,
        broken_map,
        cut_picture,
    ],
)
def test_a_mistake_is_named_and_the_rest_is_read(folder, damage):
    expected = damage(folder)
    pictures, rejected = read_all(label_maps, folder)
    assert list(pictures) == ["b"]
    assert reasons(rejected) == expected


def test_real_nuclei():
    folder = real_data("dsb2018")
    place = Location.at(folder)
    found = list(label_maps.items(place, ReadOptions()))
    assert len(found) == 440
    for item in found[::60]:
        (picture,) = label_maps.read(place, item, ReadOptions())
        values = np.asarray(Image.open(folder / "labels" / f"{item.group}.png"))
        numbers = np.unique(values[values > 0])
        assert len(picture.objects) == len(numbers)
        for each, number in zip(picture.objects, numbers, strict=True):
            assert np.array_equal(mask_of(each), values == number)
        assert Image.open(io.BytesIO(picture.image)).mode in ("L", "RGB")


def test_the_reader_is_found_by_what_is_there(folder):
    assert find_reader(Location.at(folder)) is label_maps
    assert find_reader(Location.at(folder), "coco") is READERS["coco"]
    assert list(READERS) == ["coco", "sa1b", "ade20k", "em_stacks", "label_maps"]


def test_what_is_no_data_set_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="'voc' is unknown; choose from coco, sa1b, ade20k"):
        find_reader(Location.at(folder), "voc")
    with pytest.raises(InputError, match="none does not exist"):
        find_reader(Location.at(tmp_path / "none"), "coco")
    with pytest.raises(InputError) as raised:
        find_reader(Location.at(folder / "images"))
    for name, reader in READERS.items():
        assert f"{name}: {reader.LAYOUT}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_layouts_at_once_need_a_word(folder):
    save(folder / "raw" / "00.png", noise(3, 4))
    with pytest.raises(InputError, match="may be em_stacks or label_maps; say which with --format"):
        find_reader(Location.at(folder))


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (-4, 0), (4, 4), (4, -1)])
def test_tiles_that_do_not_exist_are_refused(tile, overlap):
    with pytest.raises(InputError, match="tile"):
        ReadOptions(tile=tile, tile_overlap=overlap)


def test_any_file_system_will_do(folder):
    assert read_all(label_maps, elsewhere(folder)) == read_all(label_maps, folder)
