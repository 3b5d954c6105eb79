"""Scores of heads, written out weight by weight for both ways in which rows lie by head."""

import pytest
import torch
from test_heads import columns_of, rows_of, supernet_of
from tiny import batch_loss, labelled, random_tensor

from trainables.data.batches import Batch
from trainables.sam.scores import SCORES
from trainables.sam.supernet import Supernet


@pytest.fixture(params=["vit", "tiny_vit"])
def family(request) -> str:
    return request.param


@pytest.fixture
def supernet(family) -> Supernet:
    return supernet_of(family)


@pytest.fixture
def batch(supernet) -> Batch:
    side = supernet.encoder.image_size
    return labelled(random_tensor(2, 3, side, side))


def scored(name: str, supernet: Supernet, batch: Batch) -> list[torch.Tensor]:
    return SCORES[name](supernet, [batch], 0, supernet.encoder.attention_heads)


def parts_of(family: str, supernet: Supernet):
    """For each head of each layer: its attention, its rows and its columns."""
    for layer, block in enumerate(supernet.encoder.blocks):
        heads = supernet.encoder.full_heads[layer]
        for head in range(heads):
            rows = [row for part in rows_of(family, head, heads).values() for row in part]
            yield (layer, head), block.attn, rows, columns_of(head)


@torch.no_grad()
def inputs_of(supernet: Supernet, batch: Batch) -> dict[torch.nn.Module, torch.Tensor]:
    """What goes into `qkv` and `proj` of each layer, [tokens, features]."""
    seen = {}
    linears = [m for b in supernet.encoder.blocks for m in (b.attn.qkv, b.attn.proj)]
    hooks = [
        linear.register_forward_pre_hook(
            lambda module, inputs: seen.update({module: inputs[0].flatten(0, -2)})
        )
        for linear in linears
    ]
    supernet.sam.image_encoder(batch.pictures)
    for hook in hooks:
        hook.remove()
    return seen


@torch.no_grad()
def test_wanda_is_half_the_sum_over_a_heads_rows_and_columns(family, supernet, batch):
    found, seen = scored("wanda", supernet, batch), inputs_of(supernet, batch)
    for (layer, head), attention, rows, columns in parts_of(family, supernet):
        x, h = seen[attention.qkv], seen[attention.proj]
        into = sum(
            abs(float(weight)) * float(x[:, j].norm())
            for row in rows
            for j, weight in enumerate(attention.qkv.weight[row])
        )
        out = sum(
            abs(float(weight)) * float(h[:, column].norm())
            for column in columns
            for weight in attention.proj.weight[:, column]
        )
        assert float(found[layer][head]) == pytest.approx((into + out) / 2, rel=1e-5)


@torch.no_grad()
def test_activation_is_the_norm_of_all_that_a_head_gives(family, supernet, batch):
    found, seen = scored("activation", supernet, batch), inputs_of(supernet, batch)
    for (layer, head), attention, _, columns in parts_of(family, supernet):
        given = seen[attention.proj][:, columns]
        assert float(found[layer][head]) == pytest.approx(float(given.norm()), rel=1e-5)


def test_magnitude_is_the_weight_into_and_out_of_a_head(family, supernet, batch):
    found = scored("magnitude", supernet, batch)
    for (layer, head), attention, rows, columns in parts_of(family, supernet):
        weights = [
            *attention.qkv.weight[rows].flatten().tolist(),
            *attention.proj.weight[:, columns].flatten().tolist(),
        ]
        assert float(found[layer][head]) == pytest.approx(sum(map(abs, weights)), rel=1e-6)


def test_taylor_is_gradient_times_weight_of_all_that_a_head_has(family, supernet, batch):
    found = scored("taylor", supernet, batch)
    (batch_loss(supernet, batch, supernet.largest) * len(batch.targets)).backward()
    for (layer, head), attention, rows, columns in parts_of(family, supernet):
        qkv, proj = attention.qkv, attention.proj
        terms = [
            *(qkv.weight * qkv.weight.grad)[rows].flatten().tolist(),
            *(qkv.bias * qkv.bias.grad)[rows].tolist(),
            *(proj.weight * proj.weight.grad)[:, columns].flatten().tolist(),
        ]
        assert float(found[layer][head]) == pytest.approx(sum(map(abs, terms)), rel=1e-3)


def test_fisher_is_the_square_of_what_a_gate_on_each_head_would_get(family, supernet, batch):
    expected = [torch.zeros(heads).double() for heads in supernet.encoder.full_heads]
    for i in range(len(batch.targets)):
        alone = Batch(batch.pictures[i : i + 1], batch.targets[i : i + 1], batch.prompts[i : i + 1])
        gates, hooks = [], []
        for block, heads in zip(supernet.encoder.blocks, supernet.encoder.full_heads, strict=True):
            gate = torch.ones(heads, requires_grad=True)
            gates.append(gate)
            hooks.append(
                block.attn.proj.register_forward_pre_hook(
                    lambda _, inputs, gate=gate: (
                        (inputs[0].unflatten(-1, (len(gate), -1)) * gate[:, None]).flatten(-2),
                    )
                )
            )
        batch_loss(supernet, alone, supernet.largest).backward()
        for total, gate, hook in zip(expected, gates, hooks, strict=True):
            total += gate.grad.double().square()
            hook.remove()
    for ours, theirs in zip(scored("fisher", supernet, batch), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.max()))


@pytest.mark.parametrize("name", SCORES)
def test_neurons_have_the_same_score_whether_heads_are_asked_for_or_not(supernet, batch, name):
    neurons, heads = supernet.encoder.neurons, supernet.encoder.attention_heads
    alone = SCORES[name](supernet, [batch], 0, neurons)
    together = SCORES[name](supernet, [batch], 0, [*neurons, *heads])
    assert [len(found) for found in together[len(neurons) :]] == list(supernet.encoder.full_heads)
    for ours, theirs in zip(together[: len(neurons)], alone, strict=True):
        assert torch.equal(ours, theirs)
