import math

import pytest
import torch
from tiny import random_tensor

from trainables.data.prompts import Prompts
from trainables.sam.losses import (
    FOCAL_WEIGHT,
    decode_masks,
    dice,
    encode_prompts,
    focal,
    mask_iou,
    segmentation_loss,
)

POINTS = Prompts(points=torch.tensor([[[10.0, 20.0]], [[30.0, 5.0]]]))
BOXES = Prompts(boxes=torch.tensor([[5.0, 5.0, 30.0, 40.0], [1.0, 2.0, 60.0, 50.0]]))


def test_focal_equals_the_formula_pixel_by_pixel():
    logits, targets = random_tensor(3, 5), (random_tensor(3, 5, seed=1) > 0).float()
    total = 0.0
    for logit, target in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_t, alpha_t = (p, 0.25) if target else (1 - p, 0.75)
        total += -alpha_t * (1 - p_t) ** 2 * math.log(p_t)
    assert float(focal(logits, targets)) == pytest.approx(total / 15, rel=1e-5)


def test_dice_is_zero_for_a_sure_hit_and_near_one_for_a_sure_miss():
    targets = torch.zeros(2, 8, 8)
    targets[:, :4] = 1
    logits = torch.stack([targets[0] * 200 - 100, 100 - targets[0] * 200])
    assert dice(logits, targets).tolist() == pytest.approx([0.0, 1 - 1 / 65])


def test_mask_iou_counts_pixels():
    targets = torch.zeros(1, 4, 4)
    targets[:, :2] = 1
    logits = torch.full((1, 4, 4), -1.0)
    logits[:, 1:3] = 1
    assert mask_iou(logits, targets).tolist() == pytest.approx([4 / 12])
    assert mask_iou(-torch.ones(1, 4, 4), torch.zeros(1, 4, 4)).tolist() == [0.0]


def expected_loss(logits, ious, targets, *, box):
    """Object by object, mask by mask."""
    total = torch.zeros(())
    for i in range(len(targets)):
        each = [FOCAL_WEIGHT * focal(m, targets[i]) + dice(m, targets[i]) for m in logits[i]]
        total = total + (sum(each) / len(each) if box else min(each[1:]))
        gaps = [
            (ious[i, k] - mask_iou(logits[i, k], targets[i])) ** 2 for k in range(logits.shape[1])
        ]
        total = total + sum(gaps) / len(gaps)
    return total / len(targets)


@pytest.mark.parametrize(("prompts", "box"), [(POINTS, False), (BOXES, True)])
def test_the_best_of_three_masks_is_trained_and_for_boxes_all_four(prompts, box):
    logits = random_tensor(2, 4, 16, 16)
    ious, targets = random_tensor(2, 4, seed=1), (random_tensor(2, 16, 16, seed=2) > 0).float()
    found = segmentation_loss(logits, ious, targets, prompts)
    torch.testing.assert_close(found, expected_loss(logits, ious, targets, box=box))


def test_logits_are_enlarged_to_the_targets():
    logits = random_tensor(2, 4, 1, 1).expand(2, 4, 4, 4)
    ious, targets = random_tensor(2, 4, seed=1), (random_tensor(2, 16, 16, seed=2) > 0).float()
    found = segmentation_loss(logits, ious, targets, POINTS)
    same = logits[..., :1, :1].expand(2, 4, 16, 16)
    torch.testing.assert_close(found, expected_loss(same, ious, targets, box=False))


@pytest.mark.parametrize("prompts", [POINTS, BOXES])
def test_the_decoder_gives_sams_own_masks_with_and_without_ambiguity(sam, prompts):
    embedding = random_tensor(1, 256, 4, 4)
    sparse, dense = encode_prompts(sam, prompts)
    with torch.no_grad():
        logits, ious = decode_masks(sam, embedding, (sparse, dense))
        for multimask, chosen in ((True, slice(1, 4)), (False, slice(0, 1))):
            masks, ranks = sam.mask_decoder(
                image_embeddings=embedding,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
            assert torch.equal(masks, logits[:, chosen])
            assert torch.equal(ranks, ious[:, chosen])


@pytest.mark.parametrize("prompts", [POINTS, BOXES])
def test_no_gradient_reaches_the_prompt_encoder(sam, prompts):
    sam.prompt_encoder.requires_grad_(False)
    assert not any(t.requires_grad for t in encode_prompts(sam, prompts))


@pytest.mark.parametrize("prompts", [POINTS, BOXES])
def test_prompts_are_encoded_one_by_one(sam, prompts):
    together = encode_prompts(sam, prompts)
    for i in range(2):
        one = Prompts(
            boxes=None if prompts.boxes is None else prompts.boxes[i : i + 1],
            points=None if prompts.points is None else prompts.points[i : i + 1],
        )
        for whole, alone in zip(together, encode_prompts(sam, one), strict=True):
            torch.testing.assert_close(whole[i : i + 1], alone)
