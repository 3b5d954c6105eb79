import pytest
import torch
from tiny import SPACE, batch_loss

from trainables.data.batches import Batch
from trainables.sam.decoder import encode_prompts
from trainables.sam.losses import mask_losses, segmentation_loss
from trainables.sam.objectives import Answers, Distillation, answer, distillation_loss
from trainables.sam.sandwich import StepSettings, sandwich_step

BOTH = Distillation(embedding=2.0, masks=3.0)


def answers_of(supernet, batch: Batch, subnet) -> Answers:
    prompts = [encode_prompts(supernet.sam, asked) for asked in batch.prompts]
    return answer(supernet, supernet.encoder.stem(batch.pictures), subnet, prompts)


def sgd(supernet, rate=0.0):
    supernet.sam.prompt_encoder.requires_grad_(False)
    return torch.optim.SGD(supernet.trained_parameters(), lr=rate)


def gradients(supernet) -> list[torch.Tensor]:
    return [p.grad.clone() for p in supernet.trained_parameters() if p.grad is not None]


@torch.no_grad()
def test_nothing_is_left_to_learn_from_oneself(supernet, batch):
    own = answers_of(supernet, batch, SPACE.largest)
    assert float(distillation_loss(own, own.detached(), BOTH)) == pytest.approx(0, abs=1e-6)


@torch.no_grad()
def test_the_distillation_loss_by_hand(supernet, batch):
    own = answers_of(supernet, batch, SPACE.smallest)
    given = answers_of(supernet, batch, SPACE.largest)
    error = (own.embeddings - given.embeddings).square().sum() / given.embeddings.square().sum()
    divergences = []
    for mine, theirs in zip(own.logits, given.logits, strict=True):
        p, q = theirs.double().sigmoid(), mine.double().sigmoid()
        divergences.append((p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean())
    expected = 2.0 * float(error) + 3.0 * float(torch.stack(divergences).mean())
    found = float(distillation_loss(own, given, BOTH))
    assert found == pytest.approx(expected, rel=1e-4)
    assert found > 0
    assert float(distillation_loss(own, given, Distillation())) == 0


def test_the_teacher_has_no_gradient_from_its_pupils(supernet, batch):
    own = answers_of(supernet, batch, SPACE.smallest)
    given = answers_of(supernet, batch, SPACE.largest).detached()
    distillation_loss(own, given, BOTH).backward()
    kept = set(SPACE.smallest.layers)
    for layer, block in enumerate(supernet.sam.image_encoder.blocks):
        assert all((p.grad is not None) == (layer in kept) for p in block.parameters())


def test_a_step_distils_into_all_but_the_largest(supernet, batch):
    subnets = [SPACE.largest, SPACE.smallest]
    plain = sandwich_step(supernet, [batch], subnets, sgd(supernet), StepSettings(max_norm=1e9))
    before = gradients(supernet)
    settings = StepSettings(max_norm=1e9, distillation=BOTH)
    distilled = sandwich_step(supernet, [batch], subnets, sgd(supernet), settings)
    with torch.no_grad():
        given = answers_of(supernet, batch, SPACE.largest)
        own = answers_of(supernet, batch, SPACE.smallest)
        error = float(distillation_loss(own, given, BOTH))
    assert distilled[0] == pytest.approx(plain[0], rel=1e-5)
    assert distilled[1] == pytest.approx(plain[1] + error, rel=1e-4)
    after = gradients(supernet)
    assert any(not torch.allclose(a, b) for a, b in zip(before, after, strict=True))


def test_parts_of_a_batch_add_up_to_it(supernet, batch):
    subnets = [SPACE.largest, SPACE.smallest]
    settings = StepSettings(max_norm=1e9)
    whole = sandwich_step(supernet, [batch], subnets, sgd(supernet), settings)
    expected = gradients(supernet)
    parts = sandwich_step(supernet, batch.parts(2), subnets, sgd(supernet), settings)
    assert parts == pytest.approx(whole, rel=1e-5)
    for found, wanted in zip(gradients(supernet), expected, strict=True):
        scale = float(wanted.abs().max()) + 1e-6
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * scale)


def test_a_batch_is_only_divided_into_equal_parts(batch):
    with pytest.raises(ValueError, match="4 pictures don't make 3 equal parts"):
        batch.parts(3)


def test_half_precision_is_near_and_keeps_the_weights_single(supernet, batch):
    subnets = [SPACE.largest, SPACE.smallest]
    single = sandwich_step(supernet, [batch], subnets, sgd(supernet), StepSettings())
    settings = StepSettings(precision="bf16", distillation=BOTH)
    half = sandwich_step(supernet, [batch], subnets, sgd(supernet), settings)
    assert half[0] == pytest.approx(single[0], rel=0.02)
    assert half[0] != single[0]
    assert all(p.dtype == torch.float32 for p in supernet.parameters())
    assert all(g.dtype == torch.float32 for g in gradients(supernet))


def test_supersams_loss_is_dice_alone(supernet, batch):
    subnet = SPACE.largest
    found = answers_of(supernet, batch, subnet)
    losses = []
    for logits, ious, targets, prompts in zip(
        found.logits, found.ious, batch.targets, batch.prompts, strict=True
    ):
        loss = segmentation_loss(logits, ious, targets, prompts, "dice")
        each, _ = mask_losses(logits, targets, "dice")
        masks = each if prompts.kind == "box" else each[:, 1:].min(dim=1).values
        loss, masks = loss.detach(), masks.detach()
        assert float(loss) > float(masks.mean())  # the IoU head's part is added
        assert float(loss) < float(segmentation_loss(logits, ious, targets, prompts))
        losses.append(float(loss))
    assert sum(losses) / len(losses) < float(batch_loss(supernet, batch, subnet))
