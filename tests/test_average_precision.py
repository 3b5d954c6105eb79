import numpy as np
import pytest
from pycocotools import mask as coco_mask

from trainables.sam.average_precision import average_precision
from trainables.sam.object_results import ObjectResult

SIDE = 128
NOTHING = np.zeros((SIDE, SIDE), dtype=bool)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = NOTHING.copy()
    mask[y : y + side, x : x + side] = True
    return mask


def counts(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def result(truth, mask, score=0.5, picture=0, category="thing") -> ObjectResult:
    return ObjectResult(
        picture=picture,
        size=truth.shape,
        category=category,
        area=int(truth.sum()),
        box_iou=1.0,
        kind="box",
        iou=(truth & mask).sum() / (truth | mask).sum(),
        best_iou=1.0,
        score=score,
        truth=counts(truth),
        mask=counts(mask),
    )


def perfect(truth, **more) -> ObjectResult:
    return result(truth, truth, **more)


SMALL, MEDIUM, LARGE = square(0, 0, 8), square(20, 20, 50), square(10, 10, 100)


def test_perfect_masks_have_an_ap_of_one_in_every_size():
    found = average_precision([perfect(m, picture=i) for i, m in enumerate((SMALL, MEDIUM, LARGE))])
    assert list(found.to_dict().values()) == pytest.approx([1.0] * 6)


def test_empty_masks_have_an_ap_of_zero_and_absent_sizes_have_none():
    found = average_precision([result(SMALL, NOTHING)])
    assert found.to_dict() == {
        "ap": 0.0,
        "ap50": 0.0,
        "ap75": 0.0,
        "ap_small": 0.0,
        "ap_medium": None,
        "ap_large": None,
    }


@pytest.mark.parametrize(
    ("side", "sizes"),
    [
        (31, {"ap_small"}),
        (32, {"ap_small", "ap_medium"}),
        (33, {"ap_medium"}),
        (96, {"ap_medium", "ap_large"}),
        (97, {"ap_large"}),
    ],
)
def test_sizes_are_those_of_cocoeval(side, sizes):
    found = average_precision([perfect(square(0, 0, side))]).to_dict()
    assert {n for n in ("ap_small", "ap_medium", "ap_large") if found[n] is not None} == sizes


def test_a_mask_counts_at_the_thresholds_that_its_overlap_reaches():
    # 62 of 100 columns: IoU 0.62 passes 0.50, 0.55 and 0.60 of ten thresholds.
    found = average_precision([result(LARGE, LARGE & _left(72))])
    assert found.ap == pytest.approx(0.3)
    assert (found.ap50, found.ap75) == (pytest.approx(1.0), 0.0)


def _left(columns: int) -> np.ndarray:
    mask = NOTHING.copy()
    mask[:, :columns] = True
    return mask


@pytest.mark.parametrize(("score_of_the_wrong", "precision"), [(0.1, 1.0), (0.9, 0.5)])
def test_wrong_masks_cost_more_when_they_are_ranked_first(score_of_the_wrong, precision):
    results = [
        perfect(MEDIUM, score=0.5),
        result(square(80, 80, 40), NOTHING, score=score_of_the_wrong),
    ]
    # Recall ends at a half: 51 of COCO's 101 points.
    assert average_precision(results).ap == pytest.approx(51 / 101 * precision)


def test_ap_is_the_mean_over_categories():
    results = [perfect(MEDIUM, category="cell", picture=i) for i in range(3)]
    results.append(result(LARGE, NOTHING, category="vessel", picture=4))
    assert average_precision(results).ap == pytest.approx(0.5)


def test_masks_match_only_objects_of_their_own_picture():
    results = [result(MEDIUM, LARGE, picture=0), result(LARGE, MEDIUM, picture=1)]
    assert average_precision(results).ap == 0.0


def test_a_picture_with_150_objects_is_not_cut_off():
    results = [
        perfect(square(8 * (i % 15), 8 * (i // 15), 4), score=1 - i / 1000) for i in range(150)
    ]
    assert average_precision(results).ap == pytest.approx(1.0)


def test_nothing_reaches_standard_output(capsys):
    average_precision([perfect(MEDIUM)])
    assert capsys.readouterr().out == ""
