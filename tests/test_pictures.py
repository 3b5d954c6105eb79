import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import synthetic_picture, write_split

from search_spaces.errors import InputError
from trainables.data import pictures as pictures_module
from trainables.data.pictures import Pictures
from trainables.data.storage import Location

COUNT = 75  # five row groups, the last of 11


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("split") / "train.parquet"
    rng = np.random.default_rng(0)
    write_split(path, [synthetic_picture(rng, 12, 9, objects=1) for _ in range(COUNT)])
    return path


@pytest.fixture
def windowed(split, monkeypatch):
    """Pictures that hold two row groups, and the row groups that are read."""
    monkeypatch.setattr(pictures_module, "WINDOW", 2)
    read = []
    original = pq.ParquetFile.read_row_group

    def noted(self, group, **settings):
        read.append(group)
        return original(self, group, **settings)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    return Pictures(split), read


def test_every_picture_is_found_by_its_index(split):
    pictures = Pictures(Location.at(split))
    assert len(pictures) == COUNT
    assert [picture.id for picture in pictures] == [f"p{i}" for i in range(COUNT)]
    for beyond in (-1, COUNT):
        with pytest.raises(IndexError):
            pictures[beyond]


def test_only_what_is_asked_for_is_read_and_little_is_held(windowed):
    pictures, read = windowed
    assert read == []
    for index in (17, 18, 31, 0, 17, 40, 17, 1):
        pictures[index]
    assert read == [1, 0, 2, 0]
    assert len(pictures._held) == 2


def test_an_epoch_sees_each_picture_once_and_reads_each_row_group_once(windowed):
    pictures, read = windowed
    orders = []
    for epoch in range(3):
        order = pictures.epoch_order(3, epoch)
        assert sorted(order) == list(range(COUNT))
        read.clear()
        pictures._held.clear()
        for index in order:
            pictures[index]
        assert sorted(read) == [0, 1, 2, 3, 4]
        orders.append(tuple(order))
    assert len(set(orders)) == 3


def test_a_small_split_is_shuffled_as_a_whole(split):
    order = Pictures(split).epoch_order(0, 0)
    first = np.array([list(order).index(i) for i in range(16)])  # places of one row group
    assert first.min() < 12
    assert first.max() > COUNT - 12


def test_an_order_follows_from_seed_and_epoch_and_is_drawn_once(split):
    pictures = Pictures(split)
    again = pickle.loads(pickle.dumps(pictures))
    order = pictures.epoch_order(1, 4)
    assert pictures.epoch_order(1, 4) is order
    assert np.array_equal(again.epoch_order(1, 4), order)
    assert not np.array_equal(pictures.epoch_order(2, 4), order)
    assert not np.array_equal(pictures.epoch_order(1, 5), order)
    assert again[7].id == "p7"


def test_large_row_groups_make_a_window_small(split, monkeypatch):
    largest = max(pq.read_metadata(split).row_group(i).total_byte_size for i in range(5))
    monkeypatch.setattr(pictures_module, "WINDOW_BYTES", 3 * largest)
    pictures = Pictures(split)
    for picture in pictures:
        assert picture.size == (12, 9)
    assert len(pictures._held) == 3
    assert sorted(pictures.epoch_order(0, 0)) == list(range(COUNT))


def test_what_is_no_prepared_split_is_refused(split, tmp_path):
    with pytest.raises(InputError, match=r"none\.parquet does not exist"):
        Pictures(tmp_path / "none.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=r"junk\.parquet can't be read as Parquet"):
        Pictures(tmp_path / "junk.parquet")
    table = pq.read_table(split)
    pq.write_table(table.drop_columns(["objects"]), tmp_path / "part.parquet")
    with pytest.raises(InputError, match=r"part\.parquet has no column 'objects'"):
        Pictures(tmp_path / "part.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"empty\.parquet holds no picture"):
        Pictures(tmp_path / "empty.parquet")


def test_a_split_that_is_damaged_is_named(splits, tmp_path):
    content = bytearray((splits / "val.parquet").read_bytes())
    content[len(content) // 3] ^= 1
    (tmp_path / "val.parquet").write_bytes(content)
    pictures = Pictures(tmp_path / "val.parquet")
    with pytest.raises(InputError, match=r"val.parquet is damaged: .*; prepare it anew"):
        [pictures[i] for i in range(len(pictures))]


def test_a_bit_of_the_footer_is_found_and_a_split_written_elsewhere_is_read(split, tmp_path):
    whole, path = split.read_bytes(), tmp_path / "train.parquet"
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    there = [picture.id for picture in Pictures(split)]
    places = range(footer, len(whole), 97)
    found = 0
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            assert [picture.id for picture in Pictures(path)] == there
        except InputError as error:
            assert "train.parquet" in str(error)
            found += 1
    assert found > 0.9 * len(places)
    pq.write_table(pq.read_table(split).slice(3), path)  # with the seal that was read
    assert len(Pictures(path)) == COUNT - 3
