import pytest
import torch
from torch import nn

from trainables.sam.encoder import elastic
from trainables.sam.scores import SCORES, magnitude, order_of, wanda
from trainables.sam.vit import attend


def hook_count(module: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules())


@torch.no_grad()
def wanda_by_hand(encoder, images):
    """s_i = 1/2 (Σ_j |W1_ij| ‖x_j‖ + Σ_k |W2_ki| ‖h_i‖), neuron by neuron."""
    scores = []
    tokens = encoder.patch_embed(images) + encoder.pos_embed
    for block in encoder.blocks:
        after = attend(block, tokens)
        x = block.norm2(after).reshape(-1, 32)
        h = block.mlp.act(block.mlp.lin1(x))
        layer = []
        for i in range(h.shape[1]):
            into = sum(
                abs(float(block.mlp.lin1.weight[i, j])) * float(x[:, j].norm()) for j in range(32)
            )
            out = sum(abs(float(w)) for w in block.mlp.lin2.weight[:, i]) * float(h[:, i].norm())
            layer.append((into + out) / 2)
        scores.append(torch.tensor(layer, dtype=torch.float64))
        tokens = block(tokens)
    return scores


def test_wanda_equals_the_formula_by_hand(sam, images):
    expected = wanda_by_hand(sam.image_encoder, images)
    found = wanda(elastic(sam.image_encoder), [images])
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


@torch.no_grad()
def test_magnitude_is_the_weight_into_and_out_of_each_neuron(sam):
    found = magnitude(elastic(sam.image_encoder), [])
    for block, score in zip(sam.image_encoder.blocks, found, strict=True):
        for i in (0, 1, 77, 127):
            weights = [*block.mlp.lin1.weight[i], *block.mlp.lin2.weight[:, i]]
            assert float(score[i]) == pytest.approx(sum(abs(float(w)) for w in weights), rel=1e-6)


@pytest.mark.parametrize("metric", SCORES)
def test_scores_are_the_same_when_asked_again(sam, images, metric):
    first = SCORES[metric](elastic(sam.image_encoder), [images])
    second = SCORES[metric](elastic(sam.image_encoder), [images])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_wanda_is_the_same_however_pictures_are_batched(sam, images, sizes):
    whole = wanda(elastic(sam.image_encoder), [images])
    split = wanda(elastic(sam.image_encoder), iter(images.split(sizes)))
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_wanda_depends_on_the_pictures(sam, images):
    first, second = (wanda(elastic(sam.image_encoder), [part]) for part in images.split(2))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_wanda_leaves_no_hooks_and_no_gradients(sam, images):
    before = {name: t.clone() for name, t in sam.state_dict().items()}
    wanda(elastic(sam.image_encoder), [images])
    assert hook_count(sam) == 0
    assert all(p.grad is None for p in sam.parameters())
    assert all(torch.equal(before[name], t) for name, t in sam.state_dict().items())


def test_wanda_leaves_no_hooks_when_a_batch_fails(sam, images):
    with pytest.raises(RuntimeError):
        wanda(elastic(sam.image_encoder), [images, images[:, :2]])
    assert hook_count(sam) == 0


def test_order_is_descending_and_stable():
    (order,) = order_of([torch.tensor([1.0, 3.0, 2.0, 3.0, 1.0])])
    assert order.tolist() == [1, 3, 2, 0, 4]
