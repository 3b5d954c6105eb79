import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny import write_label_maps

from search_spaces.errors import InputError
from trainables.data import table
from trainables.data.pictures import Pictures
from trainables.data.prepare import FILES, prepare
from trainables.data.reader import AnnotatedObject, AnnotatedPicture, Item, Rejected
from trainables.data.readers import READERS
from trainables.data.readers.masks import rle_of
from trainables.data.splits import SPLITS, SplitRule
from trainables.data.storage import Location
from trainables.data.summary import PrepareSummary, read_summary

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


def all_pictures(folder):
    return [p for split in SPLITS for p in Pictures(folder / f"{split}.parquet")]


def test_the_summary_tells_what_was_written(dataset, splits, tmp_path):
    summary = prepare(dataset, tmp_path / "again", rule=RULE)
    for split, names in ids(splits).items():
        objects = sum(int(label_of(dataset, name).max()) for name in names)
        assert summary.splits[split] == {"pictures": len(names), "objects": objects}
    assert summary.left_out() == []
    assert summary.pictures_per_second == pytest.approx(14 / summary.seconds)
    assert {p.name for p in (tmp_path / "again").iterdir()} == set(FILES)
    written = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert (
        PrepareSummary.from_dict(written)
        == summary
        == read_summary(Location.at(tmp_path / "again"))
    )


def test_splits_without_a_summary_are_counted(splits, tmp_path):
    for split in SPLITS:
        shutil.copy(splits / f"{split}.parquet", tmp_path)
    assert read_summary(Location.at(tmp_path)).splits == read_summary(Location.at(splits)).splits


def test_small_objects_are_left_out_at_their_exact_area(dataset, tmp_path):
    areas = {
        path.stem: np.bincount(label_of(dataset, path.stem).ravel())[1:]
        for path in (dataset / "images").iterdir()
    }
    threshold = int(np.median(np.concatenate(list(areas.values()))))
    summary = prepare(dataset, tmp_path / "big", rule=RULE, min_area=threshold)
    pictures = all_pictures(tmp_path / "big")
    for picture in pictures:
        expected = sorted(a for a in areas.pop(picture.id) if a >= threshold)
        assert sorted(o["area"] for o in picture.objects) == expected
    assert all((rest < threshold).all() for rest in areas.values())
    assert summary.dropped["pictures"] == {"without objects": len(areas)}
    kept = sum(len(picture.objects) for picture in pictures)
    total = sum(label_of(dataset, path.stem).max() for path in (dataset / "images").iterdir())
    assert summary.dropped["objects"] == {"too small": total - kept}


def test_large_pictures_are_left_out(dataset, tmp_path):
    summary = prepare(dataset, tmp_path / "small", rule=RULE, max_side=90)
    small = all_pictures(tmp_path / "small")
    assert max(max(picture.size) for picture in small) == 90
    assert summary.dropped["pictures"] == {"too large": 14 - len(small)}


def test_a_limit_keeps_the_first_pictures_of_the_split(dataset, splits, tmp_path):
    summary = prepare(dataset, tmp_path / "few", rule=RULE, limits={"train": 2})
    before, after = ids(splits), ids(tmp_path / "few")
    assert after == before | {"train": before["train"][:2]}
    assert summary.dropped["pictures"] == {"over the limit": len(before["train"]) - 2}


def test_progress_is_told_each_picture(dataset, tmp_path):
    seen = []
    prepare(dataset, tmp_path / "out", rule=RULE, progress=lambda *far: seen.append(far))
    assert seen == [(done, 14) for done in range(1, 15)]


# A reader whose items are given, and which notes what it is asked to read.


def annotated(name, image=b"png", area=16, **more):
    mask = np.zeros((4, 4), dtype=np.bool_)
    mask.flat[:area] = True
    objects = (AnnotatedObject(len(name), "object", rle_of(mask)),)
    return AnnotatedPicture(name, image, 4, 4, objects, **more)


@pytest.fixture
def reading(monkeypatch, tmp_path):
    def run(found, listed=(), **settings):
        """Prepare `found`: for each group, what reading it gives, or raises."""
        asked = []

        def read(folder, item, options):
            asked.append(item.group)
            for thing in found[item.group]:
                if isinstance(thing, Exception):
                    raise thing
                yield thing

        fake = SimpleNamespace(
            LAYOUT="given",
            recognises=lambda folder: False,
            items=lambda folder, options: [*listed, *(Item(group, {}) for group in found)],
            read=read,
        )
        monkeypatch.setitem(READERS, "given", fake)
        settings = {"rule": RULE, "layout": "given", "min_area": 1} | settings
        try:
            return prepare(tmp_path, tmp_path / "out", **settings), asked
        finally:
            assert not list(tmp_path.rglob("*.part"))

    return run


@pytest.fixture
def plenty():
    return {f"g{i}": [annotated(f"g{i}")] for i in range(60)}


def groups_of(split, count=60):
    return sorted((f"g{i}" for i in range(count) if RULE.split(f"g{i}") == split), key=RULE.rank)


def test_rows_stand_in_the_order_of_rank(reading, plenty, tmp_path):
    reading(plenty)
    assert ids(tmp_path / "out") == {split: groups_of(split) for split in SPLITS}


def test_pictures_of_one_group_stay_together_in_their_order(reading, tmp_path):
    tiles = {f"g{i}": [annotated(f"g{i}-{t}") for t in range(3)] for i in range(20)}
    reading(tiles)
    expected = {s: [f"{g}-{t}" for g in groups_of(s, 20) for t in range(3)] for s in SPLITS}
    assert ids(tmp_path / "out") == expected


def test_what_is_over_the_limit_is_not_read(reading, plenty, tmp_path):
    third = groups_of("train")[2]
    plenty[third] = [annotated(f"{third}-{tile}") for tile in range(3)]
    summary, asked = reading(plenty, limits=dict.fromkeys(SPLITS, 3))
    assert len(asked) <= 3 * 8  # one chunk a split
    assert all(split["pictures"] == 3 for split in summary.splits.values())
    assert ids(tmp_path / "out")["train"] == [*groups_of("train")[:2], f"{third}-0"]
    assert summary.dropped["pictures"] == {"over the limit": (60 - 9) + 2}


def test_reading_ahead_changes_nothing(reading, plenty, tmp_path):
    plenty["g3"] = [Rejected("g3", "broken", "cut off")]
    limits = {"train": 5, "val": 2}
    summary, _ = reading(plenty, limits=limits)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}

    def eager(function, chunks):
        return iter([function(chunk) for chunk in list(chunks)])

    ahead, asked = reading(plenty, limits=limits, mapper=eager)
    assert len(asked) == 60
    assert (ahead.splits, ahead.left_out()) == (summary.splits, summary.left_out())
    after = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}
    del before["summary.json"], after["summary.json"]  # it holds a time
    assert before == after


def test_what_cannot_be_used_is_counted_and_listed(reading, plenty, tmp_path):
    plenty["g5"] = [Rejected("g5.png", "picture can't be read", "it is cut off")]
    plenty["g6"] = [annotated("g6", dropped={"crowd": 2}), Rejected("g6.png", "bad", "no mask")]
    plenty["g7"] = [annotated("g7", dropped={"crowd": 1})]
    listed = [Rejected("x.png", "bad", "no annotation")]
    summary, _ = reading(plenty, listed)
    assert summary.dropped["objects"] == {"crowd": 3}
    assert summary.rejected["bad"].count == 2
    assert summary.rejected["bad"].example == "x.png: no annotation"
    assert summary.rejected["picture can't be read"].count == 1
    rows = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert rows[0] == {"file": "x.png", "reason": "bad", "detail": "no annotation"}
    assert {row["file"] for row in rows} == {"x.png", "g5.png", "g6.png"}
    what = [row[:3] for row in summary.left_out()]
    assert what[0] == ("objects", "crowd", 3)


def test_strictly_the_first_thing_that_cannot_be_used_is_an_error(reading, plenty, tmp_path):
    plenty["g5"] = [Rejected("g5.png", "picture can't be read", "it is cut off")]
    with pytest.raises(InputError, match=r"g5\.png: picture can't be read: it is cut off"):
        reading(plenty, strict=True)
    with pytest.raises(InputError, match=r"x\.png: bad: no annotation"):
        reading(plenty, [Rejected("x.png", "bad", "no annotation")], strict=True)
    assert not (tmp_path / "out").exists()


def test_a_picture_id_used_twice_is_rejected(reading, plenty, tmp_path):
    first, second = groups_of("train")[:2]
    plenty[second] = [annotated(first)]
    summary, _ = reading(plenty)
    assert summary.splits["train"]["pictures"] == len(groups_of("train")) - 1
    assert summary.rejected["picture id used twice"].example.startswith(second)
    with pytest.raises(InputError, match="picture id used twice"):
        reading(plenty, strict=True)


def test_a_readers_own_mistake_is_not_hidden(reading, plenty, tmp_path):
    plenty["g5"] = [ZeroDivisionError("a bug")]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        reading(plenty)
    plenty["g5"] = [OSError("the network")]
    with pytest.raises(OSError, match="the network"):
        reading(plenty)
    assert not (tmp_path / "out").exists()


def test_an_empty_split_says_what_was_left_out(reading, plenty, tmp_path):
    for group in groups_of("val"):
        plenty[group] = [Rejected(group, "broken", "cut off")]
    with pytest.raises(InputError, match=r"for the val split.* rejected: broken .*: cut off"):
        reading(plenty)
    with pytest.raises(InputError, match=r"for the train split.*pictures: without objects"):
        reading({f"g{i}": [annotated(f"g{i}")] for i in range(60)}, min_area=17)
    assert not (tmp_path / "out").exists()


def test_row_groups_are_bounded_in_pictures_and_in_bytes(reading, plenty, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "ROW_GROUP_BYTES", 10_000)
    large = groups_of("train")[3]
    plenty[large] = [annotated(large, image=bytes(9_000))]
    huge = groups_of("train")[5]
    plenty[huge] = [annotated(huge, image=bytes(19_000))]
    reading(plenty)
    metadata = pq.read_metadata(tmp_path / "out" / "train.parquet")
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(sizes) == len(groups_of("train"))
    assert max(sizes) == table.ROW_GROUP
    assert sizes[:2] == [5, 1]


def test_only_pictures_are_stored_as_they_are(splits):
    group = pq.read_metadata(splits / "train.parquet").row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    packed = {column.path_in_schema: column.compression for column in columns}
    assert packed.pop("image") == "UNCOMPRESSED"
    assert set(packed.values()) == {"ZSTD"}


def test_a_split_is_never_held_in_memory(reading, tmp_path):
    image = np.random.default_rng(0).bytes(500_000)
    peak = []

    def watched(function, chunks):
        for chunk in chunks:
            peak.append(pa.total_allocated_bytes())
            yield function(chunk)

    found = {f"g{i}": [annotated(f"g{i}", image=image)] for i in range(240)}
    before = pa.total_allocated_bytes()
    reading(found, mapper=watched)
    assert (tmp_path / "out" / "train.parquet").stat().st_size > 50e6
    assert max(peak) - before < 30e6


def test_what_workers_import_is_free_of_torch():
    code = "import sys, trainables.data.prepare; print('torch' in sys.modules)"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "False", done.stderr


def missing_folder(dataset):
    shutil.rmtree(dataset)
    return f"{dataset} does not exist"


def unknown_layout(dataset):
    (dataset / "labels").rename(dataset / "masks")
    return f"the layout of {dataset} is not recognised"


def no_pictures(dataset):
    for path in (dataset / "images").iterdir():
        path.unlink()
    return "leaves no picture for the train split"


@pytest.mark.parametrize("damage", [missing_folder, unknown_layout, no_pictures])
def test_what_is_wrong_is_named_and_nothing_is_written(own_dataset, tmp_path, damage):
    message = damage(own_dataset)
    with pytest.raises(InputError) as raised:
        prepare(own_dataset, tmp_path / "out", rule=RULE)
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("split", "rule"), [("val", SplitRule(0, 0.5)), ("test", SplitRule(0.5, 0))]
)
def test_an_empty_split_is_named_and_nothing_is_written(dataset, tmp_path, split, rule):
    with pytest.raises(InputError, match=f"leaves no picture for the {split} split"):
        prepare(dataset, tmp_path / "out", rule=rule)
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_named_with_the_known_ones(dataset, tmp_path):
    with pytest.raises(InputError, match=r"format: 'voc' is unknown; choose from .*label_maps"):
        prepare(dataset, tmp_path, rule=RULE, layout="voc")
