import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from reading import noise, save
from scipy.io import savemat
from small_networks import coloured_images

from search_spaces.errors import InputError
from trainables.channel_pruning.data.batches import (
    Augment,
    normalised,
    plain_batches,
    training_batch,
)
from trainables.channel_pruning.data.class_folders import class_folders
from trainables.channel_pruning.data.image_set import squared
from trainables.channel_pruning.data.reading import read_images
from trainables.data.splits import SplitRule

EVEN = SplitRule(val=0.3, test=0.3)


def picture(folder: Path, name: str, seed: int = 0) -> np.ndarray:
    pixels = noise(12, 10, 3, seed=seed)
    save(folder / name, pixels)
    return pixels


def class_tree(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        picture(folder, name, seed=i)
    return folder


def labelled(images) -> dict[str, str]:
    return {name: images.classes[c] for name, c in zip(images.names, images.labels, strict=True)}


def test_folders_of_classes_with_splits(tmp_path):
    names = [f"{split}/{c}/{i}.png" for split in ("train", "test") for c in "ba" for i in range(20)]
    splits = read_images(class_tree(tmp_path, *names), EVEN)
    assert list(splits) == ["train", "val", "test"]
    assert splits["train"].classes == splits["test"].classes == ("a", "b")
    assert len(splits["test"]) == 40
    assert 5 <= len(splits["val"]) <= 20
    assert not set(splits["train"].names) & set(splits["val"].names)
    for images in splits.values():
        assert all(name.split("/")[1] == c for name, c in labelled(images).items())
    index = splits["test"].names.index("test/a/3.png")
    assert np.array_equal(splits["test"].read(index), noise(12, 10, 3, seed=63))


def test_folders_of_classes_without_splits_are_split_by_names(tmp_path):
    class_tree(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(25)))
    first = read_images(tmp_path, EVEN)
    picture(tmp_path, "a/99.png")
    more = read_images(tmp_path, EVEN)
    for split in first:
        assert set(first[split].names) <= set(more[split].names)
    assert sum(map(len, more.values())) == 51


def test_a_zip_file_reads_as_the_folder_does(tmp_path):
    folder = class_tree(
        tmp_path / "data", *(f"all/{s}/c{i}/0.png" for s in ("train", "test") for i in range(3))
    )
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._0.png").write_bytes(b"no picture")
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "data.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    expected = class_folders(folder)
    for place in (packed / "data.zip", packed):
        found = class_folders(place)
        assert set(found) == {"train", "test"}
        for split, images in found.items():
            assert labelled(images) == labelled(expected[split])
            assert np.array_equal(images.read(2), expected[split].read(2))


def test_wrong_folders_are_input_errors(tmp_path):
    tree = class_tree(tmp_path / "a", "train/x/0.png", "train/y/0.png", "test/x/0.png")
    (tree / "train" / "z").mkdir()
    with pytest.raises(InputError, match=r"class folder .*train/z holds no picture"):
        read_images(tree)
    (tree / "train" / "z").rmdir()
    picture(tree, "test/w/0.png")
    with pytest.raises(InputError, match="class w of test is not in train"):
        read_images(tree)
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="no pictures to train with"):
        read_images(tmp_path / "b")
    with pytest.raises(InputError, match="does not exist"):
        read_images(tmp_path / "c")
    (tmp_path / "d.txt").write_text("no archive")
    with pytest.raises(InputError, match="no folder and no ZIP file"):
        read_images(tmp_path / "d.txt")
    few = class_tree(tmp_path / "e", "x/0.png", "y/0.png")
    with pytest.raises(InputError, match="no picture falls into"):
        read_images(few)


def test_a_damaged_picture_is_an_input_error_when_it_is_read(tmp_path):
    class_tree(tmp_path, "train/x/0.png", "train/y/0.png", "test/x/0.png")
    (tmp_path / "train/x/0.png").write_bytes(b"no picture")
    images = class_folders(tmp_path)["train"]
    with pytest.raises(InputError, match=r"train/x/0\.png is no picture that can be read"):
        images.read(0)


def cifar_rows(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    return noise(count, 3072, seed=seed), [i % 3 for i in range(count)]


def write_cifar10(folder: Path, protocol: int = 2) -> None:
    folder.mkdir()
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        data, labels = cifar_rows(12, i)
        content = {b"data": data, b"labels": labels}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    meta = {"label_names": ["plane", "car", "bird"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


@pytest.mark.parametrize("protocol", [2, 5])
def test_cifar10_as_published(tmp_path, protocol):
    write_cifar10(tmp_path / "c", protocol)
    splits = read_images(tmp_path / "c")
    assert [len(splits[s]) for s in ("train", "val", "test")][2] == 12
    assert len(splits["train"]) + len(splits["val"]) == 60
    data, labels = cifar_rows(12, 5)
    test = splits["test"]
    assert test.classes == ("plane", "car", "bird")
    assert test.labels.tolist() == labels
    assert test.read(7)[4, 9].tolist() == [data[7, p * 1024 + 4 * 32 + 9] for p in range(3)]


def test_cifar100_as_published(tmp_path):
    for name, seed in (("train", 0), ("test", 1)):
        data, labels = cifar_rows(30, seed)
        content = {b"data": data, b"fine_labels": labels, b"coarse_labels": [0] * 30}
        (tmp_path / name).write_bytes(pickle.dumps(content))
    meta = {"fine_label_names": list("abc"), "coarse_label_names": ["z"]}
    (tmp_path / "meta").write_bytes(pickle.dumps(meta))
    splits = read_images(tmp_path)
    assert splits["test"].classes == ("a", "b", "c")
    assert splits["test"].labels.tolist() == [i % 3 for i in range(30)]


def test_cifars_binary_archives(tmp_path):
    for kind, before in (("ten", 1), ("hundred", 2)):
        folder = tmp_path / kind
        folder.mkdir()
        files = [f"data_batch_{i}.bin" for i in range(1, 6)] if before == 1 else ["train.bin"]
        for i, name in enumerate([*files, "test_batch.bin" if before == 1 else "test.bin"]):
            data, labels = cifar_rows(20, i)
            head = np.array([[0] * (before - 1) + [c] for c in labels], np.uint8)
            np.concatenate([head, data], 1).tofile(folder / name)
        listed = "batches.meta.txt" if before == 1 else "fine_label_names.txt"
        (folder / listed).write_text("a\nb\nc\n")
        splits = read_images(folder)
        data, labels = cifar_rows(20, len(files))
        assert splits["test"].labels.tolist() == labels
        assert (
            splits["test"].read(3)[0, 31].tolist() == data[3, [31, 1024 + 31, 2048 + 31]].tolist()
        )
        (folder / files[0]).write_bytes(b"x" * 100)
        with pytest.raises(InputError, match="is damaged: its size is no multiple"):
            read_images(folder)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_cifars_pickles_run_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "c")
    (tmp_path / "c/data_batch_2").write_bytes(pickle.dumps({"data": Harmful()}))
    with pytest.raises(InputError, match=r"data_batch_2 can't be read: it holds pathlib"):
        read_images(tmp_path / "c")
    assert not (tmp_path / "harm").exists()
    (tmp_path / "c/data_batch_2").write_bytes(pickle.dumps({"data": [1], "labels": [2]}))
    with pytest.raises(InputError, match="data_batch_2 is damaged"):
        read_images(tmp_path / "c")


def test_tiny_imagenet_as_published(tmp_path):
    for wnid in ("n02", "n01"):
        for i in range(12):
            picture(tmp_path, f"train/{wnid}/images/{wnid}_{i}.JPEG", seed=i)
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    for i in range(3):
        picture(tmp_path, f"val/images/val_{i}.JPEG")
    rows = [f"val_{i}.JPEG\t{wnid}\t0\t0\t9\t9\n" for i, wnid in enumerate(("n01", "n02", "n01"))]
    (tmp_path / "val/val_annotations.txt").write_text("".join(rows))
    picture(tmp_path, "test/images/test_0.JPEG")
    splits = read_images(tmp_path, EVEN)
    assert splits["test"].classes == ("n02", "n01")
    assert splits["test"].labels.tolist() == [1, 0, 1]
    assert len(splits["train"]) + len(splits["val"]) == 24
    assert labelled(splits["train"])["train/n01/images/n01_0.JPEG"] == "n01"


def test_dtd_and_food101_as_published(tmp_path):
    dtd, food = tmp_path / "dtd", tmp_path / "food"
    for c in ("banded", "dotted"):
        for i in range(3):
            picture(dtd, f"images/{c}/{c}_{i}.jpg")
        for i in range(9):
            picture(food, f"images/{c}/{i}.jpg")
    (dtd / "labels").mkdir()
    (food / "meta").mkdir()
    for i, split in enumerate(("train", "val", "test")):
        rows = f"banded/banded_{i}.jpg\ndotted/dotted_{i}.jpg\n"
        (dtd / f"labels/{split}1.txt").write_text(rows)
    rows = "".join(f"{c}/{i}\n" for c in ("banded", "dotted") for i in (0, 1, 3, 4, 5, 6, 7, 8))
    (food / "meta/train.txt").write_text(rows)
    (food / "meta/test.txt").write_text("dotted/2\n")
    splits = read_images(dtd)
    assert [len(images) for images in splits.values()] == [2, 2, 2]
    assert labelled(splits["val"])["images/dotted/dotted_1.jpg"] == "dotted"
    found = read_images(food, EVEN)
    assert found["test"].names == ("images/dotted/2.jpg",)
    assert found["test"].labels.tolist() == [1]
    (food / "images/dotted/2.jpg").unlink()
    with pytest.raises(InputError, match=r"images/dotted/2\.jpg is listed and does not exist"):
        read_images(food)


def annotations(rows: list[dict[str, object]]) -> np.ndarray:
    fields = [(name, object) for name in rows[0]]
    return np.array([tuple(row.values()) for row in rows], dtype=fields)


def test_stanford_cars_as_published(tmp_path):
    (tmp_path / "devkit").mkdir()
    savemat(tmp_path / "devkit/cars_meta.mat", {"class_names": np.array(["A", "B"], object)})
    train = [{"bbox_x1": 1, "class": 1 + i % 2, "fname": f"{i:05d}.jpg"} for i in range(12)]
    test = [{"bbox_x1": 1, "class": 2, "fname": "00000.jpg"}]
    for row in train:
        picture(tmp_path, f"cars_train/{row['fname']}")
    picture(tmp_path, "cars_test/00000.jpg")
    savemat(tmp_path / "devkit/cars_train_annos.mat", {"annotations": annotations(train)})
    unlabelled = [{"bbox_x1": 1, "fname": "00000.jpg"}]
    savemat(tmp_path / "devkit/cars_test_annos.mat", {"annotations": annotations(unlabelled)})
    with pytest.raises(InputError, match=r"cars_test_annos_withlabels\.mat does not exist"):
        read_images(tmp_path)
    savemat(tmp_path / "cars_test_annos_withlabels.mat", {"annotations": annotations(test)})
    splits = read_images(tmp_path, EVEN)
    assert splits["test"].classes == ("A", "B")
    assert splits["test"].labels.tolist() == [1]
    assert (
        labelled(
            splits["train"] if "cars_train/00003.jpg" in splits["train"].names else splits["val"]
        )["cars_train/00003.jpg"]
        == "B"
    )
    (tmp_path / "devkit/cars_meta.mat").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"cars_meta\.mat can't be read"):
        read_images(tmp_path)


def test_a_picture_is_brought_to_a_square():
    pixels = noise(20, 30, 3)
    assert np.array_equal(squared(pixels, 20), pixels[:, 5:25])
    assert squared(noise(9, 5, 3), 12).shape == (12, 12, 3)
    assert np.array_equal(squared(pixels[:, :20], 20), pixels[:, :20])


def test_batches_follow_from_seed_and_step():
    images = coloured_images(20)
    given = {"seed": 3, "batch_size": 8, "image_size": 16, "augment": Augment(shift=2)}
    first, again = (training_batch(images, 4, **given) for _ in range(2))
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(first.labels, again.labels)
    assert first.pictures.shape == (8, 3, 16, 16)
    assert first.pictures.min() >= 0 and first.pictures.max() <= 1
    other = training_batch(images, 4, **(given | {"seed": 4}))
    assert not torch.equal(first.pictures, other.pictures)


def test_an_epoch_shows_each_picture_once():
    images = coloured_images(20)
    plain = Augment(shift=0, flip=False)
    seen = [
        training_batch(images, step, seed=0, batch_size=5, image_size=16, augment=plain)
        for step in range(8)
    ]
    expected = next(plain_batches(images, batch_size=20, image_size=16))
    for epoch in (seen[:4], seen[4:]):
        found = torch.cat([batch.pictures for batch in epoch]).flatten(1)
        assert sorted(found.sum(1).tolist()) == sorted(expected.pictures.flatten(1).sum(1).tolist())
    assert not torch.equal(seen[0].pictures, seen[4].pictures)


def test_pictures_move_by_at_most_the_shift_and_mirror_at_even_odds():
    images = coloured_images(1)
    whole = torch.from_numpy(images.read(0)).permute(2, 0, 1).float() / 255
    batch = training_batch(
        images, 0, seed=0, batch_size=200, image_size=16, augment=Augment(shift=1)
    )
    places = {}
    for found in batch.pictures:
        for mirrored in (False, True):
            turned = found.flip(2) if mirrored else found
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    inner = turned[:, 1 + down : 15 + down, 1 + right : 15 + right]
                    if torch.equal(inner, whole[:, 1:15, 1:15]):
                        key = (mirrored, down, right)
                        places[key] = places.get(key, 0) + 1
    assert len(places) == 18
    assert sum(places.values()) == 200
    assert 70 < sum(n for (mirrored, _, _), n in places.items() if mirrored) < 130


def test_normalised_pictures_have_imagenets_mean_and_deviation():
    grey = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(1, 3, 2, 2)
    assert torch.equal(normalised(grey), torch.zeros(1, 3, 2, 2))
    assert normalised(grey + 0.229)[0, 0, 0, 0] == pytest.approx(1)


def test_pictures_in_memory_are_the_same():
    images = coloured_images(6)
    kept = images.in_memory(16).subset([3, 1])
    assert np.array_equal(kept.read(0), images.read(3))
    assert kept.labels.tolist() == images.labels[[3, 1]].tolist()
