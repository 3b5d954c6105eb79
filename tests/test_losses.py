import math

import pytest
import torch
from tiny import random_tensor

from trainables.data.prompts import Prompts
from trainables.sam.losses import FOCAL_WEIGHT, PIXELS_AT_ONCE, mask_losses, segmentation_loss

POINTS = Prompts(points=torch.tensor([[[10.0, 20.0]], [[30.0, 5.0]]]))
BOXES = Prompts(boxes=torch.tensor([[5.0, 5.0, 30.0, 40.0], [1.0, 2.0, 60.0, 50.0]]))


def pixel_by_pixel(logits, targets, kind):
    """Loss and IoU of one mask, by the formulas."""
    focal, overlap, sizes, shared, either = 0.0, 0.0, 0.0, 0, 0
    for logit, target in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_t, alpha_t = (p, 0.25) if target else (1 - p, 0.75)
        focal += -alpha_t * (1 - p_t) ** 2 * math.log(p_t) / targets.numel()
        overlap, sizes = overlap + p * target, sizes + p + target
        shared, either = shared + (logit > 0) * target, either + (logit > 0 or target == 1)
    dice = 1 - (2 * overlap + 1) / (sizes + 1)
    return dice + (FOCAL_WEIGHT * focal if kind == "sam" else 0), shared / max(1, either)


@pytest.mark.parametrize("kind", ["sam", "dice"])
def test_each_masks_loss_equals_the_formulas_pixel_by_pixel(kind):
    logits, targets = random_tensor(3, 2, 5, 7), (random_tensor(3, 5, 7, seed=1) > 0).float()
    losses, ious = mask_losses(logits, targets, kind)
    for i in range(3):
        for k in range(2):
            loss, iou = pixel_by_pixel(logits[i, k], targets[i], kind)
            assert losses[i, k].item() == pytest.approx(loss, rel=1e-5)
            assert ious[i, k].item() == pytest.approx(iou)


@pytest.mark.parametrize("kind", ["sam", "dice"])
@pytest.mark.parametrize("pixels", [1, 1 << 20])
def test_gradients_are_those_of_the_losses_in_parts_of_any_size(kind, pixels, monkeypatch):
    monkeypatch.setitem(PIXELS_AT_ONCE, "cpu", pixels)
    targets = (random_tensor(3, 8, 8, seed=1) > 0).double()
    logits = (3 * random_tensor(3, 2, 4, 4)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mask_losses(x, targets, kind)[0], logits)


def test_sure_logits_have_finite_losses_and_gradients():
    targets = torch.zeros(2, 8, 8)
    targets[:, :4] = 1
    logits = torch.stack([targets[0] * 200 - 100, 100 - targets[0] * 200])[:, None]
    logits.requires_grad_()
    hit, miss = mask_losses(logits, targets, "dice")[0][:, 0].tolist()
    assert (hit, miss) == (pytest.approx(0.0), pytest.approx(1 - 1 / 65))
    losses, _ = mask_losses(logits, targets)
    # α of the object's half, 1 − α of the other: ½ of 100 on average.
    assert losses[1].item() == pytest.approx(1 - 1 / 65 + FOCAL_WEIGHT * 50, rel=1e-5)
    losses.sum().backward()
    assert logits.grad.isfinite().all()


def test_an_empty_mask_of_nothing_has_iou_zero():
    _, ious = mask_losses(-torch.ones(1, 1, 4, 4), torch.zeros(1, 4, 4))
    assert ious.tolist() == [[0.0]]


def test_without_gradients_the_losses_are_the_same():
    logits, targets = random_tensor(3, 4, 4, 4), (random_tensor(3, 8, 8, seed=1) > 0).float()
    found = mask_losses(logits.clone().requires_grad_(), targets)
    for with_gradients, without in zip(found, mask_losses(logits, targets), strict=True):
        assert torch.equal(with_gradients, without)


def expected_loss(logits, ious, targets, *, box):
    """Object by object, mask by mask."""
    total = torch.zeros(())
    for i in range(len(targets)):
        found = [pixel_by_pixel(mask, targets[i], "sam") for mask in logits[i]]
        each = [loss for loss, _ in found]
        total = total + (sum(each) / len(each) if box else min(each[1:]))
        gaps = [(ious[i, k] - iou) ** 2 for k, (_, iou) in enumerate(found)]
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
