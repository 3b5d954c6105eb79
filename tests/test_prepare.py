import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from tiny import write_label_maps

from search_spaces.errors import InputError
from trainables.data.pictures import Pictures
from trainables.data.prepare import SPLITS, SplitRule, prepare
from trainables.data.table import ObjectMask, decode_masks, object_row

RULE = SplitRule(val=0.25, test=0.25)


def ids(folder: Path) -> dict[str, list[str]]:
    tables = {split: pq.read_table(folder / f"{split}.parquet") for split in SPLITS}
    return {split: table["id"].to_pylist() for split, table in tables.items()}


def label_of(dataset: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(dataset / "labels" / f"{name}.png"))


@pytest.fixture
def own_dataset(dataset, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(dataset, tmp_path / "dataset")


def test_splits_are_disjoint_and_hold_every_picture(dataset, splits):
    found = [name for names in ids(splits).values() for name in names]
    assert sorted(found) == sorted(path.stem for path in (dataset / "images").iterdir())


def test_no_picture_moves_when_pictures_are_added(own_dataset, splits, tmp_path):
    write_label_maps(own_dataset, [f"added-{i}" for i in range(6)], seed=5)
    prepare(own_dataset, tmp_path / "more", rule=RULE)
    for split, before in ids(splits).items():
        after = [name for name in ids(tmp_path / "more")[split] if not name.startswith("added-")]
        assert after == before


def test_a_limit_lets_no_picture_in_that_it_kept_out_before(own_dataset, splits, tmp_path):
    limits = {"train": 3}
    prepare(own_dataset, tmp_path / "before", rule=RULE, limits=limits)
    write_label_maps(own_dataset, [f"added-{i}" for i in range(9)], seed=5)
    prepare(own_dataset, tmp_path / "after", rule=RULE, limits=limits)
    before, after = ids(tmp_path / "before")["train"], ids(tmp_path / "after")["train"]
    added = [name for name in after if name.startswith("added-")]
    assert len(before) == len(after) == 3
    assert 0 < len(added) < 3
    assert [name for name in after if name not in added] == before[: 3 - len(added)]


@given(st.lists(st.text(max_size=9), unique=True, max_size=20), st.integers(0, 9))
def test_the_split_of_a_picture_follows_from_its_id_and_the_seed(names, seed):
    rule = SplitRule(seed=seed)
    assert all(0 <= rule.rank(name) < 1 for name in names)
    assert [rule.split(n) for n in names] == [SplitRule(seed=seed).split(n) for n in names]


def test_splits_have_about_the_shares_asked_for():
    rule = SplitRule(val=0.15, test=0.2)
    found = [rule.split(f"picture-{i}") for i in range(4000)]
    shares = [found.count(split) / 4000 for split in SPLITS]
    assert shares == pytest.approx([0.65, 0.15, 0.2], abs=0.025)


def test_another_seed_splits_otherwise():
    names = [f"picture-{i}" for i in range(50)]
    assert [SplitRule(seed=0).split(n) for n in names] != [
        SplitRule(seed=1).split(n) for n in names
    ]


def test_pictures_and_masks_come_back_as_they_were(dataset, splits):
    for split in SPLITS:
        for picture in Pictures(splits / f"{split}.parquet"):
            pixels = np.asarray(Image.open(dataset / "images" / f"{picture.id}.png"))
            labels = label_of(dataset, picture.id)
            assert np.array_equal(picture.pixels, pixels)
            expected = [labels == n for n in range(1, labels.max() + 1)]
            assert np.array_equal(picture.masks(), expected)
            assert picture.size == labels.shape


def test_objects_have_distinct_ids_that_do_not_depend_on_the_split(dataset, splits, tmp_path):
    prepare(dataset, tmp_path / "other", rule=SplitRule(val=0.25, test=0.25, seed=1))

    def objects(folder):
        pictures = [p for s in SPLITS for p in Pictures(folder / f"{s}.parquet")]
        return {o["id"]: o for picture in pictures for o in picture.objects}

    first, second = objects(splits), objects(tmp_path / "other")
    assert first == second
    assert len(first) == sum(
        label_of(dataset, p.stem).max() for p in (dataset / "images").iterdir()
    )


def test_counts_tell_what_was_written_and_what_was_left_out(dataset, splits, tmp_path):
    counts = prepare(dataset, tmp_path / "again", rule=RULE)
    for split, names in ids(splits).items():
        objects = sum(int(label_of(dataset, name).max()) for name in names)
        assert counts[split] == {"pictures": len(names), "objects": objects}
    assert not any(counts["left out"].values())


def test_small_objects_are_left_out_at_their_exact_area(dataset, tmp_path):
    areas = {
        path.stem: np.bincount(label_of(dataset, path.stem).ravel())[1:]
        for path in (dataset / "images").iterdir()
    }
    threshold = int(np.median(np.concatenate(list(areas.values()))))
    counts = prepare(dataset, tmp_path / "big", rule=RULE, min_area=threshold)
    pictures = [p for split in SPLITS for p in Pictures(tmp_path / "big" / f"{split}.parquet")]
    for picture in pictures:
        expected = sorted(a for a in areas.pop(picture.id) if a >= threshold)
        assert sorted(o["area"] for o in picture.objects) == expected
    assert all((rest < threshold).all() for rest in areas.values())
    assert counts["left out"]["pictures without objects"] == len(areas) > 0
    kept = sum(len(picture.objects) for picture in pictures)
    total = sum(label_of(dataset, path.stem).max() for path in (dataset / "images").iterdir())
    assert counts["left out"]["objects too small"] == total - kept


def test_large_pictures_are_left_out(dataset, tmp_path):
    counts = prepare(dataset, tmp_path / "small", rule=RULE, max_side=90)
    small = [p for split in SPLITS for p in Pictures(tmp_path / "small" / f"{split}.parquet")]
    assert max(max(picture.size) for picture in small) == 90
    assert counts["left out"]["pictures too large"] == 14 - len(small) > 0


def test_a_limit_keeps_the_first_pictures_of_the_split(dataset, splits, tmp_path):
    counts = prepare(dataset, tmp_path / "few", rule=RULE, limits={"train": 2})
    before, after = ids(splits), ids(tmp_path / "few")
    assert after == before | {"train": before["train"][:2]}
    assert counts["left out"]["pictures over the limit"] == len(before["train"]) - 2


def test_progress_is_told_each_picture(dataset, tmp_path):
    seen = []
    prepare(dataset, tmp_path / "out", rule=RULE, progress=seen.append)
    assert seen == list(range(1, 15))


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_masks_survive_run_length_encoding(mask):
    row = object_row(ObjectMask(7, "object", mask))
    assert np.array_equal(decode_masks([row, row], *mask.shape), [mask, mask])
    assert row["area"] == mask.sum()


@given(arrays(np.bool_, (9, 13)).filter(lambda mask: mask.any()))
def test_boxes_are_tight_around_the_mask(mask):
    x, y, width, height = object_row(ObjectMask(7, "object", mask))["box"]
    rows, columns = np.nonzero(mask)
    assert (x, x + width - 1) == (columns.min(), columns.max())
    assert (y, y + height - 1) == (rows.min(), rows.max())


def test_no_rows_are_no_masks():
    assert decode_masks([], 5, 7).shape == (0, 5, 7)


def test_sixteen_bit_label_maps_keep_their_numbers(own_dataset, tmp_path):
    path = own_dataset / "labels" / "picture-00.png"
    Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 300).save(path)
    prepare(own_dataset, tmp_path / "out", rule=RULE)
    pictures = [p for split in SPLITS for p in Pictures(tmp_path / "out" / f"{split}.parquet")]
    (picture,) = (p for p in pictures if p.id == "picture-00")
    assert len(picture.objects) == 1


def missing_folder(dataset):
    shutil.rmtree(dataset)
    return str(dataset)


def unknown_layout(dataset):
    (dataset / "labels").rename(dataset / "masks")
    return f"the layout of {dataset} is not recognised"


def missing_label(dataset):
    (dataset / "labels" / "picture-07.png").unlink()
    return f"{dataset / 'images' / 'picture-07.png'} has no label map"


def size_mismatch(dataset):
    path = dataset / "labels" / "picture-07.png"
    Image.new("L", (40, 30)).save(path)
    return f"{path} is 40×30 pixels, its picture 80×48"


def unreadable_picture(dataset):
    path = dataset / "images" / "picture-07.png"
    path.write_bytes(b"no picture")
    return f"{path} can't be read as a picture"


def unreadable_label(dataset):
    path = dataset / "labels" / "picture-07.png"
    path.write_bytes(b"no picture")
    return f"{path} can't be read as a picture"


def coloured_label(dataset):
    path = dataset / "labels" / "picture-07.png"
    Image.new("RGB", (80, 48)).save(path)
    return f"{path} is no label map: it has 3 dimensions"


def no_pictures(dataset):
    for path in (dataset / "images").iterdir():
        path.unlink()
    return "leaves no picture for the train split"


def truncated_picture(dataset):
    path = dataset / "images" / "picture-07.png"
    path.write_bytes(path.read_bytes()[:600])
    return f"{path} can't be read as a picture"


def truncated_label(dataset):
    path = dataset / "labels" / "picture-07.png"
    path.write_bytes(path.read_bytes()[:60])
    return f"{path} can't be read as a picture"


@pytest.mark.parametrize(
    "damage",
    [
        missing_folder,
        unknown_layout,
        missing_label,
        size_mismatch,
        unreadable_picture,
        unreadable_label,
        coloured_label,
        no_pictures,
        truncated_picture,
        truncated_label,
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(own_dataset, tmp_path, damage):
    message = damage(own_dataset)
    with pytest.raises(InputError) as raised:
        prepare(own_dataset, tmp_path / "out", rule=RULE)
    assert message in str(raised.value)
    assert not list(tmp_path.rglob("*.parquet*"))


@pytest.mark.parametrize(
    ("split", "rule"), [("val", SplitRule(0, 0.5)), ("test", SplitRule(0.5, 0))]
)
def test_an_empty_split_is_named_and_nothing_is_written(dataset, tmp_path, split, rule):
    with pytest.raises(InputError, match=f"leaves no picture for the {split} split"):
        prepare(dataset, tmp_path / "out", rule=rule)
    assert not list(tmp_path.rglob("*.parquet*"))


def test_an_unknown_format_is_named_with_the_known_ones(dataset, tmp_path):
    with pytest.raises(InputError, match="format: 'voc' is unknown; choose from label_maps"):
        prepare(dataset, tmp_path, rule=RULE, layout="voc")


def test_sixteen_bit_pictures_keep_their_contrast(own_dataset, tmp_path):
    ramp = np.linspace(0, 40_000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(own_dataset / "images" / "picture-00.png")
    prepare(own_dataset, tmp_path / "out", rule=RULE)
    pictures = [p for split in SPLITS for p in Pictures(tmp_path / "out" / f"{split}.parquet")]
    (picture,) = (p for p in pictures if p.id == "picture-00")
    assert (picture.pixels == 255).mean() < 0.1


def test_pictures_refuse_what_is_no_prepared_split(splits, tmp_path):
    with pytest.raises(InputError, match=r"none\.parquet does not exist"):
        Pictures(tmp_path / "none.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"junk\.parquet can't be read as Parquet"):
        Pictures(tmp_path / "junk.parquet")
    table = pq.read_table(splits / "val.parquet")
    pq.write_table(table.drop_columns(["objects"]), tmp_path / "part.parquet")
    with pytest.raises(InputError, match=r"part\.parquet has no column 'objects'"):
        Pictures(tmp_path / "part.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"empty\.parquet holds no picture"):
        Pictures(tmp_path / "empty.parquet")
