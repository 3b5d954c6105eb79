import torch

from trainables.data.calibration import calibration_batches
from trainables.data.pixels import resize_and_pad


def batches(pictures, count=6, **changed):
    settings = {"seed": 0, "image_size": 64, "max_objects": 9, "prompts": "box"}
    return list(calibration_batches(pictures, count, **{**settings, **changed}))


def test_batches_are_distinct_pictures_as_they_are(train_pictures):
    whole = []
    for i in range(len(train_pictures)):
        picture = train_pictures[i]
        whole.append(resize_and_pad(picture.pixels, picture.masks(), 64))
    found = []
    for batch in batches(train_pictures):
        (index,) = (i for i, (p, _) in enumerate(whole) if torch.equal(p, batch.pictures[0]))
        found.append(index)
        (targets,), (prompts,) = batch.targets, batch.prompts
        assert sorted(map(hash, map(tuple, targets.flatten(1).tolist()))) == sorted(
            map(hash, map(tuple, whole[index][1].flatten(1).tolist()))
        )
        for target, box in zip(targets, prompts.boxes, strict=True):
            rows, columns = torch.nonzero(target, as_tuple=True)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [float(side) for side in tight]
    assert len(set(found)) == len(found) == 6


def test_batches_follow_from_the_seed(train_pictures):
    first, again, other = (batches(train_pictures, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a.pictures, b.pictures) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.pictures, b.pictures) for a, b in zip(first, other, strict=True))


def test_there_are_no_more_than_the_split_holds(train_pictures):
    assert len(batches(train_pictures, 1000)) == len(train_pictures)
    assert len(batches(train_pictures, 1)) == 1
