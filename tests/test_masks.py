import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from reading import compressed, runs_of

from trainables.data.reader import EMPTY
from trainables.data.readers.masks import BrokenMask, NoMask, annotated_rle, decompressed


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_are_understood_as_they_are_written(mask):
    text = compressed(mask)["counts"].encode()
    assert decompressed(text).tolist() == runs_of(mask)


@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_large_run_lengths_are_understood(height, width, data):
    cut = data.draw(st.integers(0, height * width))
    mask = np.arange(height * width).reshape(height, width, order="F") >= cut
    assert decompressed(compressed(mask)["counts"].encode()).tolist() == runs_of(mask)


@given(st.text(alphabet="0123456789:;<=>?@abcABC`oO", max_size=12))
def test_any_text_is_a_mask_or_refused(text):
    try:
        rle = annotated_rle({"size": [3, 4], "counts": text}, 3, 4)
    except BrokenMask as error:
        assert str(error)
        return
    except NoMask as nothing:
        assert nothing.reason == EMPTY
        return
    assert runs_of(coco_mask.decode(rle).astype(bool)) is not None
    assert sum(decompressed(rle["counts"]).tolist()) == 12
