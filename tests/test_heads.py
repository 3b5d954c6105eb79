"""Slices to the first heads, against attention that is written out head by head."""

import math

import pytest
import torch
from test_encoder import LinearWeights
from test_families import TINY_VIT
from tiny import HEADED_CONFIG, batch_loss, labelled, random_tensor, tiny_sam
from torch import Tensor

from search_spaces import Subnet
from trainables.sam.attention import FirstHeads
from trainables.sam.supernet import Supernet
from trainables.sam.units import reorder

HEADS = 4
LENGTH = 8
"""Of a head's queries, keys and values, in all layers of both."""
ORDER = (2, 0, 3, 1)


def rows_of(family: str, head: int, heads: int = HEADS) -> dict[str, list[int]]:
    """The rows of `qkv` that make the queries, keys and values of one of so many heads."""
    starts = {
        "vit": [(kind * heads + head) * LENGTH for kind in range(3)],
        "tiny_vit": [(head * 3 + kind) * LENGTH for kind in range(3)],
    }[family]
    return {
        name: [start + i for i in range(LENGTH)] for name, start in zip("qkv", starts, strict=True)
    }


def columns_of(head: int) -> list[int]:
    return [head * LENGTH + i for i in range(LENGTH)]


def supernet_of(family: str) -> Supernet:
    return Supernet(tiny_sam(config={"vit": HEADED_CONFIG, "tiny_vit": TINY_VIT}[family]))


LAYERS = {"vit": (0, 1), "tiny_vit": (3, 4)}
"""A windowed and a global one; the two of TinyViT's last stage, with four heads."""


def attention_of(supernet: Supernet, layer: int):
    return supernet.encoder.blocks[layer].attn


def by_hand(family: str, attention, tokens: Tensor, heads: tuple[int, ...]) -> Tensor:
    """The attention of some heads among the tokens of one grid, [S, S, C] to the same."""
    side, channels = tokens.shape[0], tokens.shape[-1]
    places = [(row, column) for row in range(side) for column in range(side)]
    x = tokens.reshape(-1, channels)
    if family == "tiny_vit":
        x = attention.norm(x)
    output = attention.proj.bias.expand(len(places), -1).clone()
    for head in heads:
        weights = {
            name: (attention.qkv.weight[rows], attention.qkv.bias[rows])
            for name, rows in rows_of(family, head).items()
        }
        q, k, v = (x @ weights[name][0].T + weights[name][1] for name in "qkv")
        logits = torch.zeros(len(places), len(places))
        for t, (row, column) in enumerate(places):
            for s, (other_row, other_column) in enumerate(places):
                down, right = row - other_row, column - other_column
                logits[t, s] = q[t] @ k[s] / math.sqrt(LENGTH)
                if family == "vit":
                    logits[t, s] += q[t] @ attention.rel_pos_h[down + side - 1]
                    logits[t, s] += q[t] @ attention.rel_pos_w[right + side - 1]
                else:
                    table = attention.attention_biases[head]
                    logits[t, s] += table[abs(down) * side + abs(right)]
        output += logits.softmax(dim=1) @ v @ attention.proj.weight[:, columns_of(head)].T
    return output.reshape(tokens.shape)


def sliced(family: str, attention, tokens: Tensor, heads: int) -> Tensor:
    if family == "vit":
        return FirstHeads(attention, heads)(tokens[None])[0]
    return attention(tokens[None], heads)[0]


@pytest.fixture(params=["vit", "tiny_vit"])
def family(request) -> str:
    return request.param


@pytest.mark.parametrize("index", range(2))
@pytest.mark.parametrize("heads", [1, 2, 3, 4])
@torch.no_grad()
def test_the_first_heads_alone_attend(family, index, heads):
    attention = attention_of(supernet_of(family), LAYERS[family][index])
    side = {"vit": (3, 4)[index], "tiny_vit": 3}[family]
    tokens = random_tensor(side, side, 32)
    found = sliced(family, attention, tokens, heads)
    expected = by_hand(family, attention, tokens, tuple(range(heads)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    other = by_hand(family, attention, tokens, (*range(1, heads), HEADS - heads))
    assert heads == HEADS or (found - other).abs().max() > 1e-2


@torch.no_grad()
def test_reordered_a_slice_has_the_heads_that_were_named_first(family):
    supernet, layer = supernet_of(family), LAYERS[family][1]
    attention = attention_of(supernet, layer)
    tokens = random_tensor(4, 4, 32) if family == "vit" else random_tensor(3, 3, 32)
    expected = [by_hand(family, attention, tokens, ORDER[:count]) for count in range(1, 5)]
    reorder([supernet.encoder.attention_heads[layer]], [torch.tensor(ORDER)])
    found = [sliced(family, attention, tokens, count) for count in range(1, 5)]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_no_gradient_reaches_the_other_heads(family):
    supernet, layer = supernet_of(family), LAYERS[family][1]
    supernet.train()
    widths = supernet.largest.mlp_widths
    side = supernet.encoder.image_size
    heads = tuple(1 if i == layer else full for i, full in enumerate(supernet.encoder.full_heads))
    subnet = Subnet(supernet.largest.layers, widths, heads)
    batch_loss(supernet, labelled(random_tensor(2, 3, side, side)), subnet).backward()
    attention = attention_of(supernet, layer)
    for head in range(HEADS):
        rows = [row for part in rows_of(family, head).values() for row in part]
        gradients = [
            attention.qkv.weight.grad[rows],
            # A key's bias changes every logit of a query alike, so it has no gradient.
            attention.qkv.bias.grad[rows_of(family, head)["v"]],
            attention.proj.weight.grad[:, columns_of(head)],
        ]
        if family == "tiny_vit":
            gradients.append(attention.attention_biases.grad[head])
        for gradient in gradients:
            assert bool(gradient.abs().sum() > 0) == (head == 0)


@torch.no_grad()
def test_slices_of_heads_are_views_of_the_parents_weights(family):
    supernet = supernet_of(family)
    encoder, layers = supernet.encoder, supernet.largest.layers
    subnet = Subnet(layers, supernet.largest.mlp_widths, (1,) * len(layers))
    held = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    with LinearWeights() as seen:
        encoder(random_tensor(1, 3, encoder.image_size, encoder.image_size), subnet)
    assert {w.untyped_storage().data_ptr() for w in seen.weights} <= held
    # Queries, keys and values of the ViT are three slices, those of TinyViT one.
    assert len(seen.weights) == len(layers) * {"vit": 6, "tiny_vit": 4}[family]
