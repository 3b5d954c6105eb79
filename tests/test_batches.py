import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from tiny import synthetic_picture, write_split

from trainables.data.batches import MIN_VISIBLE, AugmentSettings, training_batch
from trainables.data.pictures import Pictures
from trainables.data.pixels import resize_and_pad
from trainables.data.prompts import (
    as_prompts,
    centre_point,
    choose_kind,
    generator,
    inside_point,
    jittered,
    one_point,
    tight_box,
)
from trainables.sam.segment_anything_import import ResizeLongestSide

PLAIN = AugmentSettings(flip=False, rotate=False)
VARIED = AugmentSettings(smallest_crop=0.5)
MASKS = arrays(np.bool_, (9, 13)).filter(lambda mask: mask.any())


def draw(pictures, step, **changed):
    settings = {
        "seed": 0,
        "batch_size": 4,
        "image_size": 64,
        "max_objects": 3,
        "prompts": "mixed",
        "augment": VARIED,
    }
    return training_batch(pictures, step, **(settings | changed))


def tensors(batch):
    prompts = [p.points if p.boxes is None else p.boxes for p in batch.prompts]
    return [batch.pictures, *batch.targets, *prompts]


def same(first, second):
    pairs = list(zip(tensors(first), tensors(second), strict=True))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def indices(pictures, batch):
    """Which pictures are in a batch that was not augmented."""
    known = [resize_and_pad(p.pixels, p.masks(), 64)[0] for p in pictures]
    found = [[i for i, k in enumerate(known) if torch.equal(k, p)] for p in batch.pictures]
    assert all(len(matches) == 1 for matches in found)
    return [matches[0] for matches in found]


def test_a_batch_follows_from_seed_and_step(train_pictures):
    assert same(draw(train_pictures, 5), draw(train_pictures, 5))
    assert not torch.equal(draw(train_pictures, 5).pictures, draw(train_pictures, 6).pictures)
    assert not torch.equal(
        draw(train_pictures, 5).pictures, draw(train_pictures, 5, seed=1).pictures
    )


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_partition_the_batch(train_pictures, world_size):
    whole = draw(train_pictures, 3)
    for rank in range(world_size):
        share = draw(train_pictures, 3, rank=rank, world_size=world_size)
        assert len(share.pictures) == 4 // world_size
        assert torch.equal(share.pictures, whole.pictures[rank::world_size])
        expected = whole.targets[rank::world_size]
        assert all(torch.equal(a, b) for a, b in zip(share.targets, expected, strict=True))


def test_an_epoch_sees_every_picture_once_and_each_in_another_order(train_pictures):
    count = len(train_pictures)
    assert count % 4  # so that a batch spans two epochs
    seen = []
    for step in range(count):
        seen += indices(train_pictures, draw(train_pictures, step, augment=PLAIN))
    epochs = [seen[i * count : (i + 1) * count] for i in range(4)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("augment", [PLAIN, AugmentSettings(), VARIED])
def test_a_point_prompt_lies_in_its_mask(train_pictures, augment):
    for step in range(6):
        batch = draw(train_pictures, step, prompts="point", augment=augment)
        for targets, prompts in zip(batch.targets, batch.prompts, strict=True):
            assert prompts.kind == "point"
            for mask, point in zip(targets, prompts.points, strict=True):
                x, y = (int(v) for v in point[0])
                assert mask[y, x] == 1


def test_a_box_prompt_is_near_the_tight_box_and_inside_the_input(train_pictures):
    moved = []
    for step in range(6):
        batch = draw(train_pictures, step, prompts="box")
        for targets, prompts in zip(batch.targets, batch.prompts, strict=True):
            assert prompts.kind == "box"
            tight = torch.stack([torch.from_numpy(tight_box(m.numpy() > 0)) for m in targets])
            sides = (tight[:, 2:] - tight[:, :2]).repeat(1, 2)
            assert ((prompts.boxes >= 0) & (prompts.boxes <= 64)).all()
            moved.append((prompts.boxes - tight) / sides)
    moved = torch.cat(moved)
    assert 0.04 < moved.std() < 0.12
    assert moved.abs().max() < 0.5


def test_mixed_prompts_ask_some_pictures_with_boxes_and_some_with_points(train_pictures):
    kinds = [p.kind for step in range(8) for p in draw(train_pictures, step).prompts]
    assert 8 <= kinds.count("box") <= 24


def test_targets_are_masks_of_visible_objects_and_at_most_so_many(train_pictures):
    for step in range(6):
        batch = draw(train_pictures, step, max_objects=2)
        assert batch.pictures.shape == (4, 3, 64, 64)
        for targets in batch.targets:
            assert targets.shape[1:] == (64, 64)
            assert 1 <= len(targets) <= 2
            assert set(targets.unique().tolist()) == {0.0, 1.0}
            assert (targets.flatten(1).sum(1) >= MIN_VISIBLE).all()


def test_augmentation_moves_pictures_and_masks_together(tmp_path):
    pixels, labels = synthetic_picture(np.random.default_rng(0), 64, 64, objects=3)
    pixels[labels > 0], pixels[labels == 0] = 200, 20
    write_split(tmp_path / "one.parquet", [(pixels, labels)])
    pictures = Pictures(tmp_path / "one.parquet")
    seen = set()
    for step in range(60):
        batch = draw(pictures, step, batch_size=1, max_objects=9, augment=AugmentSettings())
        bright = (batch.pictures[0, 0] > 0).float()
        assert torch.equal(batch.targets[0].sum(0), bright)
        seen.add(tuple(bright.flatten().tolist()))
    assert len(seen) == 8  # four turns, mirrored or not


@pytest.mark.parametrize("image_size", [48, 64, 100])
def test_a_plain_input_is_what_sam_itself_prepares(sam, train_pictures, image_size):
    resize = ResizeLongestSide(image_size)
    for picture in train_pictures:
        ours, targets = resize_and_pad(picture.pixels, picture.masks(), image_size)
        theirs = torch.from_numpy(resize.apply_image(picture.pixels)).permute(2, 0, 1)
        height, width = theirs.shape[1:]
        expected = (theirs - sam.pixel_mean) / sam.pixel_std
        assert (ours[:, :height, :width] - expected).abs().max() < 0.02  # rounding to uint8
        for beyond in (ours[:, height:], ours[:, :, width:], targets[:, height:]):
            assert not beyond.any()
        shrunk = targets.sum((1, 2)) / (height * width)
        true = torch.from_numpy(picture.masks()).float().mean((1, 2))
        torch.testing.assert_close(shrunk, true, rtol=0.15, atol=0.004)


def test_a_picture_whose_objects_vanish_at_the_input_size_can_be_trained_on(tmp_path):
    labels = np.zeros((400, 400), dtype=np.uint8)
    labels[10:14, 10:14] = 1  # 16 pixels: `prepare` keeps it
    write_split(tmp_path / "one.parquet", [(np.zeros((400, 400, 3), dtype=np.uint8), labels)])
    batch = draw(Pictures(tmp_path / "one.parquet"), 0, batch_size=1, augment=PLAIN)
    assert len(batch.pictures) == len(batch.targets) == len(batch.prompts) == 1


@given(MASKS)
def test_a_tight_box_holds_its_mask_and_touches_it_on_all_sides(mask):
    x0, y0, x1, y1 = (int(v) for v in tight_box(mask))
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum()
    assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@given(MASKS, st.integers(0, 99))
def test_an_inside_point_is_a_pixel_of_the_mask(mask, seed):
    x, y = inside_point(mask, generator(seed))
    assert mask[int(y), int(x)]


def test_inside_points_reach_every_pixel():
    mask = np.zeros((5, 6), dtype=np.bool_)
    mask[1, 2] = mask[3, 5] = mask[4, 0] = True
    points = {tuple(inside_point(mask, generator(seed))) for seed in range(60)}
    assert points == {(2.0, 1.0), (5.0, 3.0), (0.0, 4.0)}


def test_jitter_moves_no_side_further_than_20_pixels():
    box = np.array([100, 100, 900, 900], dtype=np.float32)
    moved = np.stack([jittered(box, 1000, generator(seed)) - box for seed in range(200)])
    assert np.abs(moved).max() == 20


def test_kinds_are_drawn_for_mixed_only():
    assert {choose_kind("box", generator(s)) for s in range(20)} == {"box"}
    assert {choose_kind("point", generator(s)) for s in range(20)} == {"point"}
    assert {choose_kind("mixed", generator(s)) for s in range(20)} == {"box", "point"}


@pytest.mark.parametrize("values", [{"smallest_crop": 0}, {"smallest_crop": 1.1}, {"colour": True}])
def test_impossible_augmentations_are_refused(values):
    with pytest.raises(ValidationError, match=next(iter(values))):
        AugmentSettings(**values)


def test_the_centre_of_a_mask_is_farthest_from_its_edge():
    mask = np.zeros((9, 12), dtype=np.bool_)
    mask[2:7, 3:8] = True
    assert centre_point(mask).tolist() == [5, 4]
    mask[:, :] = True  # the picture's border counts as an edge
    column, row = centre_point(mask)
    assert row == 4
    assert column in (4, 5, 6, 7)
    mask[:, :] = False
    mask[0, 11] = True
    assert centre_point(mask).tolist() == [11, 0]


def test_the_centre_needs_no_chance():
    rng = generator(0)
    mask = np.ones((5, 5), dtype=np.bool_)
    assert one_point("centre", mask, rng).tolist() == [2, 2]
    assert rng.random() == generator(0).random()
    assert choose_kind("centre", rng) == "centre"
    assert as_prompts("centre", [np.array([2, 2], dtype=np.float32)]).kind == "point"
