import dataclasses
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from test_average_precision import perfect, square
from tiny import CONFIG, SPACE, synthetic_picture, write_split

from search_spaces import InputError
from trainables.data.pictures import Pictures
from trainables.sam import examples
from trainables.sam.detailed import measure_in_detail, summarise
from trainables.sam.evaluation import EvaluationSet
from trainables.sam.examples import make_examples
from trainables.sam.object_results import object_results, pictures_at_once
from trainables.sam.segment_anything_import import SamPredictor
from trainables.sam.standalone import extract

ASKED = {"seed": 5, "max_objects": 64, "min_area": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Pictures:
    path = tmp_path_factory.mktemp("detailed") / "test.parquet"
    rng = np.random.default_rng(1)
    shapes = [(90, 60, 2), (150, 200, 36), (48, 48, 3), (64, 64, 1), (33, 70, 2)]
    write_split(path, [synthetic_picture(rng, *shape) for shape in shapes])
    return Pictures(path)


def of_area(area: int, iou: float = 1.0):
    return dataclasses.replace(perfect(square(0, 0, 8)), area=area, iou=iou, best_iou=1.0)


def test_sizes_are_cocos_to_the_pixel():
    areas = {1: "small", 1023: "small", 1024: "medium", 9215: "medium", 9216: "large"}
    for area, size in areas.items():
        row = summarise([of_area(area, 0.25)], "point")
        for other in ("small", "medium", "large"):
            assert row[f"objects_{other}"] == (other == size)
            assert row[f"miou_{other}"] == (0.25 if other == size else None)


def test_means_are_over_objects_and_ap_is_for_boxes_alone():
    results = [of_area(100, 0.5), of_area(2000, 1.0), of_area(200, 0.75)]
    row = summarise(results, "box")
    assert row["miou"] == 0.75
    assert row["miou_small"] == 0.625
    assert row["miou_oracle"] == 1.0
    assert row["ap"] == 1.0
    assert summarise(results, "point")["ap"] is None
    assert summarise(results, "point").keys() == row.keys()


@pytest.mark.parametrize("kind", ["box", "point", "mixed"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_streaming_gives_what_a_search_sees_to_the_bit(supernet, pictures, kind, batch_size):
    held = EvaluationSet(pictures, image_size=64, prompts=kind, seed=5)
    metrics = held.evaluate(supernet, SPACE.smallest, batch_size)
    streamed = measure_in_detail(
        supernet, SPACE.smallest, iter(pictures), [kind], batch_size=batch_size, **ASKED
    )
    (row,) = streamed.rows
    assert (row["miou"], row["miou_oracle"]) == (metrics.miou, metrics.miou_oracle)
    assert (row["objects"], streamed.pictures) == (metrics.objects, len(held))
    assert row["box_miou"] == held.box_miou()


def test_kinds_asked_together_are_answered_as_if_alone(supernet, pictures):
    together = measure_in_detail(supernet, SPACE.largest, pictures, ["box", "point"], **ASKED)
    for kind, row in zip(("box", "point"), together.rows, strict=True):
        alone = measure_in_detail(supernet, SPACE.largest, pictures, [kind], **ASKED)
        assert alone.rows == [row]


def test_each_picture_is_encoded_once_and_read_when_it_is_needed(supernet, pictures):
    taken, encoded = [], []
    supernet.encoder.register_forward_hook(lambda _, inputs, __: encoded.append(len(inputs[0])))

    def watched():
        for picture in pictures:
            assert len(taken) - sum(encoded) < 2
            taken.append(picture.id)
            yield picture

    measure_in_detail(supernet, SPACE.largest, watched(), ["box", "point"], batch_size=2, **ASKED)
    assert encoded == [2, 2, 1]


def test_chosen_masks_are_those_that_segment_anything_ranks_first(supernet, pictures):
    drawn = make_examples(pictures, ["box"], image_size=64, **ASKED)
    asked = {"batch_size": 1, "masks_of": ["box"]}
    results = list(object_results(supernet, SPACE.smallest, drawn, ["box"], **asked))
    predictor = SamPredictor(extract(supernet.sam, CONFIG, SPACE.smallest))
    numbers = {row["rle"]: (n, row) for n, p in enumerate(pictures) for row in p.objects}
    assert len(results) == len(numbers) == 44
    for result in results:
        number, row = numbers[result.truth]
        assert (result.picture, result.area, result.category) == (number, row["area"], "object")
        predictor.set_image(pictures[number].pixels)
        x, y, width, height = row["box"]
        masks, scores, _ = predictor.predict(box=np.array([x, y, x + width, y + height]))
        ours = coco_mask.decode({"size": result.size, "counts": result.mask})
        assert (ours.astype(bool) == masks[scores.argmax()]).all()
        assert result.score == pytest.approx(scores.max(), abs=1e-5)


def test_objects_of_fewer_pixels_are_not_prompted_but_their_pictures_count(supernet, pictures):
    areas = [row["area"] for picture in pictures for row in picture.objects]
    least = sorted(areas)[-3]
    found = measure_in_detail(
        supernet, SPACE.largest, pictures, ["box"], **{**ASKED, "min_area": least}
    )
    assert found.pictures == 5
    assert found.rows[0]["objects"] == 3
    held = EvaluationSet(pictures, image_size=64, prompts="box", seed=5, min_area=least)
    assert len(held) == 5
    assert held.evaluate(supernet, SPACE.largest).objects == 3
    for nobody in (
        lambda: EvaluationSet(pictures, image_size=64, prompts="box", seed=5, min_area=10**6),
        lambda: measure_in_detail(
            supernet, SPACE.largest, pictures, ["box"], **{**ASKED, "min_area": 10**6}
        ),
    ):
        with pytest.raises(InputError, match="none of the 5 pictures has an object of 1000000"):
            nobody()


def test_no_gradient_is_kept(supernet, pictures):
    drawn = make_examples(pictures, ["box"], image_size=64, **ASKED)
    for _ in object_results(supernet, SPACE.largest, drawn, ["box"], batch_size=2):
        assert torch.is_grad_enabled()
    assert all(p.grad is None for p in supernet.parameters())


def test_larger_pictures_are_encoded_fewer_at_once():
    sizes = (64, 256, 512, 1024, 2048)
    assert [pictures_at_once(size) for size in sizes] == [8, 8, 2, 1, 1]
    assert math.isclose(pictures_at_once(256) * 256**2, pictures_at_once(512) * 512**2)


def test_how_many_masks_are_held_together_changes_nothing(supernet, pictures, monkeypatch):
    whole = measure_in_detail(supernet, SPACE.largest, pictures, ["box", "mixed"], **ASKED)
    monkeypatch.setattr(examples, "MASKS_AT_ONCE", 5)
    parts = measure_in_detail(supernet, SPACE.largest, pictures, ["box", "mixed"], **ASKED)
    for row, again in zip(whole.rows, parts.rows, strict=True):
        assert row["objects"] == again["objects"] == 44
        assert row["miou"] == pytest.approx(again["miou"], abs=1e-4)
        assert row["box_miou"] == again["box_miou"]


def test_of_very_large_pictures_fewer_masks_are_held(tmp_path):
    rng = np.random.default_rng(2)
    write_split(tmp_path / "large.parquet", [synthetic_picture(rng, 2048, 2048, 20)])
    asked = {"image_size": 64, **ASKED}
    (example,) = make_examples(Pictures(tmp_path / "large.parquet"), ["box", "point"], **asked)
    for prompts in example.prompts.values():
        assert [len(p.boxes if p.kind == "box" else p.points) for p in prompts] == [8, 8, 4]
    assert len(example.box_ious) == len(example.objects) == 20
