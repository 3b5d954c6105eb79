import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from trainables.data.reader import AnnotatedObject
from trainables.data.readers.masks import rle_of
from trainables.data.table import decode_masks, object_rows


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_masks_survive_run_length_encoding(mask):
    (row,) = object_rows([AnnotatedObject(7, "object", rle_of(mask))])
    assert np.array_equal(decode_masks([row, row], *mask.shape), [mask, mask])
    assert row["area"] == mask.sum()


@given(arrays(np.bool_, (9, 13)).filter(lambda mask: mask.any()))
def test_boxes_are_tight_around_the_mask(mask):
    (row,) = object_rows([AnnotatedObject(7, "object", rle_of(mask))])
    x, y, width, height = row["box"]
    rows, columns = np.nonzero(mask)
    assert (x, x + width - 1) == (columns.min(), columns.max())
    assert (y, y + height - 1) == (rows.min(), rows.max())


def test_no_rows_are_no_masks():
    assert object_rows([]) == []
    assert decode_masks([], 5, 7).shape == (0, 5, 7)
