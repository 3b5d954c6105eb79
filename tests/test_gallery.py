"""The gallery: which pictures are shown, and what is drawn on them."""

import io

import numpy as np
import pytest
from PIL import Image
from tiny import SPACE

from automl.ledger import read_rows, write_rows
from automl.sam.gallery import SCHEMA, SIDE, _outline, draw_gallery
from trainables.data.pictures import Pictures
from trainables.sam.evaluation import EvaluationSet


@pytest.fixture
def examples(splits):
    pictures = Pictures(splits / "train.parquet")
    return EvaluationSet(pictures, image_size=64, prompts="box", seed=0)


def test_the_largest_gains_come_first_and_the_largest_losses_last(supernet, examples, tmp_path):
    rows = list(draw_gallery(supernet, supernet, SPACE.smallest, examples, 4))
    gains = [row["miou_subnet"] - row["miou_parent"] for row in rows]
    assert len(rows) == min(4, len(examples.examples))
    assert gains == sorted(gains, reverse=True)
    assert {row["subnet"] for row in rows} == {SPACE.smallest.key}
    for row in rows:
        shown = [Image.open(io.BytesIO(row[name])) for name in ("parent", "masks")]
        assert shown[0].size == shown[1].size
        assert max(shown[0].size) <= SIDE
    write_rows(rows, tmp_path / "gallery.parquet", SCHEMA)
    assert read_rows(tmp_path / "gallery.parquet") == rows


def test_a_subnet_that_is_the_parent_is_drawn_like_it(supernet, examples):
    for row in draw_gallery(supernet, supernet, SPACE.largest, examples, 4):
        assert row["parent"] == row["masks"]
        assert row["miou_parent"] == row["miou_subnet"]


def test_an_outline_is_the_edge_of_a_mask():
    mask = np.zeros((6, 7), dtype=np.bool_)
    mask[1:5, 1:6] = True
    outline = _outline(mask)
    assert outline.sum() == 4 * 5 - 2 * 3
    assert not (outline & ~mask).any()
    assert _outline(np.ones((3, 3), dtype=np.bool_)).sum() == 8
