"""Folded attention against segment_anything's own, and where it is taken."""

import pytest
import torch
from tiny import HEADED_CONFIG, HEADED_SPACE, random_subnets, random_tensor, tiny_sam
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.sam import attention as attention_module
from trainables.sam.attention import (
    FOLDED_FROM,
    IN_PARTS_FROM,
    FirstHeads,
    attention_in_parts,
    folded_attention,
    run_attention,
)
from trainables.sam.encoder import elastic
from trainables.sam.segment_anything_import import Attention
from trainables.sam.standalone import extract

HEADS = 2
SHAPES = {  # of the tokens, and of the grid that the tables are for
    "windows": ((6, 3, 3, 32), (3, 3)),
    "global": ((2, 8, 8, 32), (8, 8)),
    "not square": ((2, 4, 6, 32), (4, 6)),
    "tables too short": ((2, 6, 7, 32), (4, 4)),
    "an odd length of heads": ((1, 3, 3, 22), (3, 3)),
}


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation gives, elements."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = result if isinstance(result, tuple | list) else (result,)
        tensors = [tensor for tensor in given if isinstance(tensor, torch.Tensor)]
        self.largest = max([self.largest, *(tensor.numel() for tensor in tensors)])
        return result


def attention_of(dim: int, grid: tuple[int, int]) -> Attention:
    """Every parameter is random; a position changes a logit by about 1."""
    attention = Attention(dim, HEADS, use_rel_pos=True, input_size=grid)
    with torch.no_grad():
        for seed, (name, p) in enumerate(attention.named_parameters()):
            p.copy_(random_tensor(*p.shape, seed=seed) * (0.5 if "pos" in name else 0.2))
    return attention


@pytest.fixture
def never_their_own(monkeypatch):
    monkeypatch.setattr(attention_module, "IN_PARTS_FROM", 0)
    monkeypatch.setattr(attention_module, "FOLDED_FROM", 0)


@pytest.mark.parametrize("name", SHAPES)
def test_folded_is_segment_anythings_forward_and_backward(name):
    shape, grid = SHAPES[name]
    attention = attention_of(shape[-1], grid)
    results = []
    for run in (folded_attention, Attention.forward):
        tokens = random_tensor(*shape, seed=9).requires_grad_()
        output = run(attention, tokens)
        wanted = random_tensor(*shape, seed=10)
        inputs = [tokens, *attention.parameters()]
        results.append((output, torch.autograd.grad((output * wanted).sum(), inputs)))
    (ours, our_gradients), (theirs, their_gradients) = results
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for found, expected in zip(our_gradients, their_gradients, strict=True):
        size = expected.abs().max()
        assert size > 0.1  # those of both position tables too
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * max(size, 1))


def test_no_table_of_all_pairs_is_made_forward_or_backward():
    grid = (16, 16)
    attention, tokens = attention_of(32, grid), random_tensor(1, *grid, 32)
    found = {}
    for run in (folded_attention, Attention.forward):
        with Sizes() as sizes:
            run(attention, tokens.requires_grad_()).sum().backward()
        found[run] = sizes.largest
    assert found[Attention.forward] == HEADS * 256 * 256
    assert found[folded_attention] < HEADS * 256 * 256 / 2


def test_in_bf16_folded_is_nearer_to_the_truth():
    attention, tokens = attention_of(64, (12, 12)), random_tensor(4, 12, 12, 64)
    with torch.no_grad():
        truth = attention(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = folded_attention(attention, tokens), attention(tokens)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert (ours - truth).norm() < 0.75 * (theirs - truth).norm()


@pytest.mark.parametrize("gradients", [False, True])
def test_fewer_heads_are_fused_like_all(gradients):
    attention, tokens = attention_of(32, (8, 8)), random_tensor(2, 8, 8, 32)
    first = FirstHeads(attention, 1)
    with torch.set_grad_enabled(gradients):
        expected = first(tokens)
        for fused in (folded_attention, attention_in_parts):
            torch.testing.assert_close(fused(first, tokens), expected, rtol=0, atol=1e-5)
            assert not torch.allclose(fused(attention, tokens), expected, atol=1e-2)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("limit", [0, 2**23])
@torch.no_grad()
def test_in_parts_it_is_segment_anythings(name, limit, monkeypatch):
    monkeypatch.setattr(attention_module, "PART", limit)
    shape, grid = SHAPES[name]
    attention, tokens = attention_of(shape[-1], grid), random_tensor(*shape)
    found = attention_in_parts(attention, tokens)
    torch.testing.assert_close(found, attention(tokens), rtol=0, atol=1e-5)


@torch.no_grad()
def test_in_parts_only_a_part_of_the_table_is_there(monkeypatch):
    monkeypatch.setattr(attention_module, "PART", 0)  # as few queries at once as it takes
    attention, tokens = attention_of(32, (16, 16)), random_tensor(1, 16, 16, 32)
    with Sizes() as sizes:
        found = attention_in_parts(attention, tokens)
    assert sizes.largest == HEADS * 64 * 256
    torch.testing.assert_close(found, attention(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gradients", [False, True])
def test_only_from_the_border_on_it_is_fused(gradients):
    border = FOLDED_FROM if gradients else IN_PARTS_FROM
    fused = folded_attention if gradients else attention_in_parts
    for count, is_fused in ((border - 1, False), (border, True)):
        attention, tokens = attention_of(4, (1, count)), random_tensor(1, 1, count, 4)
        with torch.set_grad_enabled(gradients):
            found = run_attention(attention, tokens)
            assert torch.equal(found, fused(attention, tokens)) == is_fused
            assert torch.equal(found, attention(tokens)) != is_fused


@torch.no_grad()
def test_without_position_tables_it_is_segment_anythings(never_their_own):
    whole, tokens = Attention(8, HEADS), random_tensor(1, 3, 3, 8)
    for attention in (whole, FirstHeads(whole, 1)):
        assert torch.equal(run_attention(attention, tokens), attention(tokens))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("index", range(4))
def test_an_encoder_that_folds_is_the_standalone_model(images, index, gradients, never_their_own):
    subnets = random_subnets(4, HEADED_SPACE)
    assert [bool(subnet.heads) for subnet in subnets] == [False, True, True, False]
    sam, subnet = tiny_sam(config=HEADED_CONFIG), subnets[index]
    alone = extract(sam, HEADED_CONFIG, subnet).image_encoder
    with torch.set_grad_enabled(gradients):
        ours, theirs = elastic(sam.image_encoder)(images, subnet), alone(images)
    assert not torch.equal(ours, theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
