from pathlib import Path

import pytest
import torch
from tiny import batch_loss, labelled, random_tensor, tiny_sam
from torch import distributed as dist
from torch import nn

from trainables.data.batches import Batch
from trainables.sam.scores import SCORES, order_of, visual_prompt
from trainables.sam.supernet import Supernet
from trainables.sam.vit import attend

NEURONS = (0, 1, 77, 127)


def hook_count(module: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules())


def scored(name: str, supernet: Supernet, batches, seed: int = 0) -> list[torch.Tensor]:
    """Of the neurons of each layer, then of its heads."""
    units = [*supernet.encoder.neurons, *supernet.encoder.attention_heads]
    return SCORES[name](supernet, batches, seed, units)


def parts(batch: Batch, sizes: tuple[int, ...]) -> list[Batch]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    slices = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return [Batch(batch.pictures[s], batch.targets[s], batch.prompts[s]) for s in slices]


def assert_close(found, expected, rtol=1e-5):
    assert len(found) == len(expected) in (4, 8)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=0)


def inputs_by_hand(encoder, pictures):
    """Layer by layer the inputs of both linear layers, [tokens, features]."""
    tokens = encoder.patch_embed(pictures) + encoder.pos_embed
    for block in encoder.blocks:
        x = block.norm2(attend(block, tokens)).reshape(-1, 32)
        yield block.mlp, x, block.mlp.act(block.mlp.lin1(x))
        tokens = block(tokens)


@torch.no_grad()
def test_wanda_equals_the_formula_by_hand(supernet, batch):
    """s_i = 1/2 (Σ_j |W1_ij| ‖x_j‖ + Σ_k |W2_ki| ‖h_i‖), neuron by neuron."""
    expected = []
    for mlp, x, h in inputs_by_hand(supernet.sam.image_encoder, batch.pictures):
        layer = []
        for i in range(h.shape[1]):
            into = sum(abs(float(mlp.lin1.weight[i, j])) * float(x[:, j].norm()) for j in range(32))
            out = sum(abs(float(w)) for w in mlp.lin2.weight[:, i]) * float(h[:, i].norm())
            layer.append((into + out) / 2)
        expected.append(torch.tensor(layer, dtype=torch.float64))
    assert_close(scored("wanda", supernet, [batch])[:4], expected)


@torch.no_grad()
def test_activation_is_how_strongly_each_neuron_fires(supernet, batch):
    expected = []
    for _, _, h in inputs_by_hand(supernet.sam.image_encoder, batch.pictures):
        fired = [sum(float(v) ** 2 for v in h[:, i]) ** 0.5 for i in range(h.shape[1])]
        expected.append(torch.tensor(fired, dtype=torch.float64))
    assert_close(scored("activation", supernet, [batch])[:4], expected)


def test_magnitude_is_the_weight_into_and_out_of_each_neuron(supernet):
    found = scored("magnitude", supernet, [])[:4]
    for block, score in zip(supernet.sam.image_encoder.blocks, found, strict=True):
        for i in NEURONS:
            weights = [*block.mlp.lin1.weight[i], *block.mlp.lin2.weight[:, i]]
            assert float(score[i]) == pytest.approx(sum(abs(float(w)) for w in weights), rel=1e-6)


def test_taylor_is_gradient_times_weight_of_all_that_a_neuron_has(supernet, batch):
    found = scored("taylor", supernet, [batch])[:4]
    (batch_loss(supernet, batch, supernet.largest) * len(batch.targets)).backward()
    for block, score in zip(supernet.sam.image_encoder.blocks, found, strict=True):
        first, second = block.mlp.lin1, block.mlp.lin2
        for i in NEURONS:
            weights = [*first.weight[i], first.bias[i], *second.weight[:, i]]
            slopes = [*first.weight.grad[i], first.bias.grad[i], *second.weight.grad[:, i]]
            terms = [w.item() * g.item() for w, g in zip(weights, slopes, strict=True)]
            assert float(score[i]) == pytest.approx(sum(map(abs, terms)), rel=1e-3)


def test_fisher_is_the_square_of_what_a_gate_on_each_neuron_would_get(supernet, batch):
    expected = [torch.zeros(128, dtype=torch.float64) for _ in range(4)]
    for alone in parts(batch, (1,) * 4):
        gates = [torch.ones(128, requires_grad=True) for _ in range(4)]
        hooks = [
            mlp.activation.register_forward_hook(lambda _, __, h, gate=gate: h * gate)
            for mlp, gate in zip(supernet.encoder.mlps, gates, strict=True)
        ]
        batch_loss(supernet, alone, supernet.largest).backward()
        for total, gate, hook in zip(expected, gates, hooks, strict=True):
            total += gate.grad.double().square()
            hook.remove()
    found = scored("fisher", supernet, [batch])[:4]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.max()))


def test_random_follows_from_the_seed_alone(supernet, batch):
    before = torch.random.get_rng_state()
    first, again, other = (scored("random", supernet, [batch], seed) for seed in (0, 0, 1))
    assert_close(first, again, rtol=0)
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])
    assert all(0.3 < float(drawn.mean()) < 0.7 for drawn in first[:4])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_the_same_when_asked_again(supernet, batch, name):
    first, second = (scored(name, supernet, [batch]) for _ in range(2))
    assert_close(first, second, rtol=0)
    assert len({tuple(order.tolist()) for order in order_of(first[:4])}) == 4


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_scores_are_the_same_however_pictures_are_batched(supernet, batch, name, sizes):
    whole = scored(name, supernet, [batch])
    assert_close(scored(name, supernet, iter(parts(batch, sizes))), whole, rtol=1e-6)


@pytest.mark.parametrize("name", ["wanda", "activation", "taylor", "fisher", "pass"])
def test_scores_depend_on_the_pictures(supernet, batch, name):
    first, second = (scored(name, supernet, [part]) for part in parts(batch, (2, 2)))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["taylor", "fisher", "pass"])
def test_gradient_scores_depend_on_the_labels(supernet, batch, name):
    other = Batch(batch.pictures, [1 - target for target in batch.targets], batch.prompts)
    first, second = (scored(name, supernet, [labels]) for labels in (batch, other))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("training", [True, False])
def test_scores_leave_the_model_as_it_was(supernet, batch, name, training):
    supernet.train(training)
    weights = {key: t.clone() for key, t in supernet.sam.state_dict().items()}
    modes = [module.training for module in supernet.modules()]
    for i, p in enumerate(supernet.parameters()):
        p.grad = None if i % 2 else torch.full_like(p, 0.5)
    scored(name, supernet, [batch])
    assert hook_count(supernet) == 0
    assert all(torch.equal(weights[key], t) for key, t in supernet.sam.state_dict().items())
    assert [module.training for module in supernet.modules()] == modes
    for i, p in enumerate(supernet.parameters()):
        assert p.requires_grad
        assert p.grad is None if i % 2 else bool((p.grad == 0.5).all())


@pytest.mark.parametrize("name", ["wanda", "activation", "taylor", "fisher", "pass"])
def test_scores_leave_no_hooks_when_a_batch_fails(supernet, batch, name):
    bad = Batch(batch.pictures[:, :2], batch.targets, batch.prompts)
    with pytest.raises(RuntimeError):
        scored(name, supernet, [batch, bad])
    assert hook_count(supernet) == 0


def test_order_is_descending_and_stable():
    (order,) = order_of([torch.tensor([1.0, 3.0, 2.0, 3.0, 1.0])])
    assert order.tolist() == [1, 3, 2, 0, 4]


def _scores_of_share(share: slice) -> dict[str, list[torch.Tensor]]:
    whole = labelled(random_tensor(5, 3, 64, 64, seed=1))
    batch = Batch(whole.pictures[share], whole.targets[share], whole.prompts[share])
    supernet = Supernet(tiny_sam())
    visual_prompt.STEPS = 3  # also in processes that know of no fixture
    return {name: scored(name, supernet, [batch]) for name in SCORES}


def _worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    found = _scores_of_share((slice(0, 3), slice(3, 5))[rank])
    dist.destroy_process_group()
    torch.save(found, folder / f"{rank}.pt")


def test_two_processes_have_the_scores_of_one(tmp_path):
    torch.multiprocessing.spawn(_worker, (tmp_path,), nprocs=2)
    whole, half = _scores_of_share(slice(0, 5)), _scores_of_share(slice(0, 3))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name in SCORES:
        assert_close(first[name], second[name], rtol=0)
        assert_close(first[name], whole[name], rtol=1e-4)
        sees_pictures = name not in ("magnitude", "random")
        assert torch.equal(half[name][0], whole[name][0]) != sees_pictures
