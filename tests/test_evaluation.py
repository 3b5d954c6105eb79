import numpy as np
import pytest
import torch
from tiny import CONFIG, SPACE, synthetic_picture, write_split

from trainables.data.pictures import Pictures
from trainables.data.prompts import generator, inside_point
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.segment_anything_import import SamPredictor
from trainables.sam.standalone import extract
from trainables.sam.supernet import Supernet

SEED = 11


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures above and below the input size; one has more objects than are decoded at once."""
    path = tmp_path_factory.mktemp("evaluation") / "test.parquet"
    rng = np.random.default_rng(0)
    shapes = [(90, 60, 2), (150, 200, 36), (48, 48, 3), (64, 64, 1)]
    write_split(path, [synthetic_picture(rng, *shape) for shape in shapes])
    return Pictures(path)


@pytest.fixture
def supernet(sam, pictures):
    """The decoder's masks and ranks vary: with fresh weights they hardly would."""
    with torch.no_grad():
        for name, p in sam.mask_decoder.named_parameters():
            if name.startswith(("output_hypernetworks_mlps", "iou_prediction_head")):
                p.mul_(2)
    return Supernet(sam)


def evaluation_set(pictures, prompts="box", **changed):
    return EvaluationSet(pictures, image_size=64, prompts=prompts, seed=SEED, **changed)


def iou(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def slow_answers(sam, pictures, kind):
    """Every object through segment_anything's own predictor: IoUs of the three, their ranks."""
    predictor = SamPredictor(sam)
    answers = []
    for picture in pictures:
        predictor.set_image(picture.pixels)
        for row, mask in zip(picture.objects, picture.masks(), strict=True):
            if kind == "box":
                y, x = np.nonzero(mask)
                asked = {"box": np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])}
            else:
                point = inside_point(mask, generator(SEED, row["id"], 1))
                asked = {"point_coords": point[None], "point_labels": np.array([1])}
            masks, ranks, _ = predictor.predict(**asked, multimask_output=True)
            assert masks.shape == (3, *picture.size)
            answers.append(([iou(m, mask) for m in masks], ranks))
    return np.array([a for a, _ in answers]), np.array([r for _, r in answers])


@pytest.mark.parametrize("kind", ["box", "point"])
@pytest.mark.parametrize("subnet", [SPACE.largest, SPACE.smallest])
def test_miou_is_that_of_the_mask_which_segment_anything_ranks_first(
    supernet, pictures, kind, subnet
):
    ious, ranks = slow_answers(extract(supernet.sam, CONFIG, subnet), pictures, kind)
    chosen = ious[np.arange(len(ious)), ranks.argmax(1)]
    metrics = evaluation_set(pictures, kind).evaluate(supernet, subnet, batch_size=1)
    assert metrics.objects == len(ious) == 42
    assert metrics.miou == pytest.approx(chosen.mean(), abs=1e-6)
    assert metrics.miou_oracle == pytest.approx(ious.max(1).mean(), abs=1e-6)
    # What it must not be: the first mask, the mean of the three, the best of the three.
    for other in (ious[:, 0].mean(), ious.mean(), ious.max(1).mean()):
        assert abs(metrics.miou - other) > 2e-4


def test_evaluating_again_gives_the_same_to_the_bit(supernet, pictures):
    for kind in ("box", "point", "mixed"):
        first = evaluation_set(pictures, kind)
        metrics = first.evaluate(supernet, SPACE.largest)
        first.evaluate(supernet, SPACE.smallest)
        assert first.evaluate(supernet, SPACE.largest) == metrics
        assert evaluation_set(pictures, kind).evaluate(supernet, SPACE.largest) == metrics


def test_the_prompts_of_a_picture_do_not_depend_on_the_others(supernet, pictures, tmp_path):
    rng = np.random.default_rng(0)
    write_split(tmp_path / "one.parquet", [synthetic_picture(rng, 90, 60, 2)])
    alone = evaluation_set(Pictures(tmp_path / "one.parquet"), "point")
    limited = evaluation_set(pictures, "point", limit=1)
    assert len(alone) == len(limited) == 1
    assert alone.evaluate(supernet, SPACE.largest) == limited.evaluate(supernet, SPACE.largest)


def test_points_follow_from_the_seed(supernet, pictures):
    other = EvaluationSet(pictures, image_size=64, prompts="point", seed=SEED + 1)
    first = evaluation_set(pictures, "point").evaluate(supernet, SPACE.largest)
    assert other.evaluate(supernet, SPACE.largest).miou != first.miou


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_batch_size_does_not_matter(supernet, pictures, batch_size):
    examples = evaluation_set(pictures)
    whole = examples.evaluate(supernet, SPACE.largest, batch_size=4)
    split = examples.evaluate(supernet, SPACE.largest, batch_size=batch_size)
    assert split.miou == pytest.approx(whole.miou, abs=1e-4)
    first = examples.embeddings(supernet, SPACE.largest, batch_size=4)
    second = examples.embeddings(supernet, SPACE.largest, batch_size=batch_size)
    torch.testing.assert_close(list(first), list(second), rtol=0, atol=1e-5)


def test_limits_bound_pictures_and_objects(supernet, pictures):
    few = evaluation_set(pictures, limit=2, max_objects=5)
    assert len(few) == 2
    assert few.evaluate(supernet, SPACE.largest).objects == 2 + 5
    assert len(evaluation_set(pictures, limit=99)) == 4


def test_evaluation_leaves_weights_and_gradients_alone(supernet, pictures):
    before = {name: t.clone() for name, t in supernet.sam.state_dict().items()}
    evaluation_set(pictures, limit=1).evaluate(supernet, SPACE.largest)
    assert all(torch.equal(t, before[n]) for n, t in supernet.sam.state_dict().items())
    assert all(p.grad is None for p in supernet.parameters())


def test_inputs_are_what_segment_anythings_predictor_feeds_its_encoder(supernet, pictures):
    predictor = SamPredictor(supernet.sam)
    fed = []
    hook = supernet.sam.image_encoder.register_forward_pre_hook(lambda _, x: fed.append(x[0]))
    for picture in pictures:
        predictor.set_image(picture.pixels)
    hook.remove()
    ours = torch.cat(list(evaluation_set(pictures).batches(supernet, batch_size=3)))
    assert torch.equal(ours, torch.cat(fed))


def test_boxes_as_masks_score_the_share_of_their_area(pictures):
    shares = []
    for picture in pictures:
        for mask in picture.masks():
            y, x = np.nonzero(mask)
            shares.append(mask[y.min() : y.max() + 1, x.min() : x.max() + 1].mean())
    assert evaluation_set(pictures).box_miou() == pytest.approx(np.mean(shares))
