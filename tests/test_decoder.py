from functools import partial

import pytest
import torch
from tiny import random_tensor
from torch.utils.flop_counter import FlopCounterMode

from trainables.data.prompts import Prompts
from trainables.sam.decoder import decode_masks, encode_prompts

POINTS = Prompts(points=torch.tensor([[[10.0, 20.0]], [[30.0, 5.0]]]))
BOXES = Prompts(boxes=torch.tensor([[5.0, 5.0, 30.0, 40.0], [1.0, 2.0, 60.0, 50.0]]))
SEVERAL = Prompts(points=torch.tensor([[[10.0, 20.0], [3.0, 4.0], [50.0, 8.0]]]))


def sams_own(sam, embedding, sparse, dense):
    return sam.mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )


@pytest.mark.parametrize("prompts", [POINTS, BOXES, SEVERAL])
@pytest.mark.parametrize("own_dense", [False, True])
def test_masks_and_gradients_are_those_of_sams_own_decoder(sam, prompts, own_dense):
    sparse, dense = encode_prompts(sam, prompts)
    if own_dense:  # as with mask prompts
        dense = random_tensor(*dense.shape, seed=3)
    parameters = dict(sam.mask_decoder.named_parameters())
    found = []
    for decode in (sams_own, lambda sam, x, *encoded: decode_masks(sam, x, encoded)):
        embedding = random_tensor(1, 256, 4, 4).requires_grad_()
        logits, ious = decode(sam, embedding, sparse, dense)
        wanted = random_tensor(*logits.shape, seed=1)
        loss = (logits * wanted).mean() + ious.square().mean()
        gradients = torch.autograd.grad(loss, [embedding, *parameters.values()], allow_unused=True)
        found.append([logits, ious, *gradients])
    names = ["logits", "ious", "embedding", *parameters]
    for name, theirs, ours in zip(names, *found, strict=True):
        if name.endswith("k_proj.bias"):
            # A key's bias changes nothing: the gradient is zero, and may be left out.
            ours = torch.zeros_like(theirs) if ours is None else ours
            assert max(theirs.abs().max(), ours.abs().max()) < 1e-5, name
            continue
        error = (ours - theirs).norm() / theirs.norm()
        assert error < 1e-5, f"{name}: {error}"


def test_it_takes_two_thirds_of_the_multiplications(sam):
    boxes = BOXES.boxes.repeat(4, 1)
    sparse, dense = encode_prompts(sam, Prompts(boxes=boxes))
    embedding, counted = random_tensor(1, 256, 4, 4), []
    embedding = embedding.repeat(1, 1, 4, 4)
    dense = dense.repeat(1, 1, 4, 4)[:1].expand(len(boxes), -1, -1, -1)
    positions = sam.prompt_encoder.pe_layer((16, 16))[None]
    own = partial(
        sam.mask_decoder.predict_masks,
        image_embeddings=embedding,
        image_pe=positions,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )
    for decode in (own, partial(decode_masks, sam, embedding, (sparse, dense), positions)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            decode()
        counted.append(counter.get_total_flops())
    assert counted[1] < 0.67 * counted[0]


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
