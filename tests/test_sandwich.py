import copy
from pathlib import Path

import pytest
import torch
from tiny import (
    HEADED_CONFIG,
    HEADED_SPACE,
    SPACE,
    batch_loss,
    random_subnets,
    tiny_sam,
)
from torch import distributed as dist

from search_spaces import Subnet, SubnetSpace
from trainables.data.batches import AugmentSettings, training_batch
from trainables.data.pictures import Pictures
from trainables.sam.sandwich import StepSettings, sandwich_step, sandwich_subnets, shared_layers
from trainables.sam.supernet import Supernet
from trainables.supernet import TrainingSettings, train_supernet

UNCLIPPED = StepSettings(max_norm=1e9)


def state_of(supernet):
    return {name: t.clone() for name, t in supernet.sam.state_dict().items()}


def sgd(supernet, rate=0.1):
    supernet.sam.prompt_encoder.requires_grad_(False)
    return torch.optim.SGD(supernet.trained_parameters(), lr=rate)


def largest_difference(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_a_step_has_the_largest_then_the_smallest_then_random_subnets(space):
    for step in range(30):
        subnets = sandwich_subnets(space, step, seed=0, n_random=3)
        assert subnets[:2] == [space.largest, space.smallest]
        assert 2 <= len(set(subnets)) == len(subnets) <= 5
        assert all(space.contains(subnet) for subnet in subnets)


def test_the_subnets_of_a_step_follow_from_seed_and_step(space):
    def draw(seed):
        return [tuple(sandwich_subnets(space, s, seed=seed, n_random=2)) for s in range(20)]

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert len(set(draw(0))) > 10


def test_a_space_of_one_subnet_trains_it_once():
    space = SubnetSpace(((128,),) * 4, (0.0,) * 4)
    assert sandwich_subnets(space, 0, seed=0, n_random=4) == [space.largest]


@pytest.mark.parametrize("space", [SPACE, HEADED_SPACE])
def test_the_gradient_is_the_mean_of_the_subnets_own_gradients(space, batch):
    supernet, subnets = Supernet(tiny_sam(config=HEADED_CONFIG)), random_subnets(4, space)
    assert sum(bool(subnet.heads) for subnet in subnets) == (2 if space.heads else 0)
    optimiser = sgd(supernet)
    names, parameters = zip(*_trained(supernet), strict=True)
    own = [
        torch.autograd.grad(
            batch_loss(supernet, batch, subnet),
            parameters,
            materialize_grads=True,
        )
        for subnet in subnets
    ]
    losses = [batch_loss(supernet, batch, subnet).item() for subnet in subnets]
    before = [p.detach().clone() for p in parameters]
    found = sandwich_step(supernet, [batch], subnets, optimiser, UNCLIPPED)
    assert found == pytest.approx(losses, rel=1e-5)
    for name, p, old, *gradients in zip(names, parameters, before, *own, strict=True):
        mean = torch.stack(gradients).mean(0)
        if p.grad is None:  # a bias that changes nothing
            assert name.endswith("to_image.k_proj.bias")
            assert not mean.any()
            continue
        scale = float(mean.abs().max()) + 1e-6
        torch.testing.assert_close(p.grad, mean, rtol=1e-4, atol=1e-5 * scale, msg=name)
        torch.testing.assert_close(p.detach(), old - 0.1 * p.grad, rtol=0, atol=1e-6)


def _trained(supernet):
    return [
        (name, p)
        for name, p in supernet.sam.named_parameters()
        if not name.startswith("prompt_encoder.")
    ]


def test_a_second_step_does_not_see_the_gradients_of_the_first(supernet, batch):
    subnets = random_subnets(2)
    optimiser = sgd(supernet, rate=0.0)
    sandwich_step(supernet, [batch], subnets, optimiser, UNCLIPPED)
    first = [p.grad.clone() for p in supernet.trained_parameters() if p.grad is not None]
    sandwich_step(supernet, [batch], subnets, optimiser, UNCLIPPED)
    again = [p.grad for p in supernet.trained_parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_layers_that_no_subnet_of_the_step_has_stay_as_they_are(supernet, batch, space):
    before = state_of(supernet)
    sandwich_step(supernet, [batch], [space.smallest], sgd(supernet), UNCLIPPED)
    changed = {name for name, t in supernet.sam.state_dict().items() if not t.equal(before[name])}
    assert space.smallest == Subnet((1,), (16,))
    for name in before:
        if name.startswith("image_encoder.blocks."):
            assert (name in changed) == name.startswith("image_encoder.blocks.1.")
    rows = supernet.sam.image_encoder.blocks[1].mlp.lin1.weight
    assert torch.equal(rows[16:], before["image_encoder.blocks.1.mlp.lin1.weight"][16:])


def test_heads_that_no_subnet_of_the_step_has_stay_as_they_are(batch):
    supernet, smallest = Supernet(tiny_sam(config=HEADED_CONFIG)), HEADED_SPACE.smallest
    assert smallest == Subnet((1,), (16,), (2,))
    attention = supernet.sam.image_encoder.blocks[1].attn
    before = copy.deepcopy(attention)
    sandwich_step(supernet, [batch], [smallest], sgd(supernet), UNCLIPPED)
    weights = [a.qkv.weight.detach().view(3, 4, 8, 32) for a in (attention, before)]
    columns = [a.proj.weight.detach().view(32, 4, 8).transpose(0, 1) for a in (attention, before)]
    for new, old in (columns, *zip(*weights, strict=True)):
        assert [torch.equal(new[head], old[head]) for head in range(4)] == [False] * 2 + [True] * 2


def test_the_update_is_clipped_to_the_given_norm(supernet, batch, space):
    before = [p.detach().clone() for p in supernet.trained_parameters()]
    settings = StepSettings(max_norm=0.01)
    sandwich_step(supernet, [batch], [space.largest], sgd(supernet, rate=1.0), settings)
    moved = [p.detach() - old for p, old in zip(supernet.trained_parameters(), before, strict=True)]
    norm = torch.cat([m.flatten() for m in moved]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_the_prompt_encoder_has_no_gradient(supernet, batch, space):
    before = {name: t.clone() for name, t in supernet.sam.prompt_encoder.state_dict().items()}
    sandwich_step(supernet, [batch], [space.largest], sgd(supernet), UNCLIPPED)
    assert all(p.grad is None for p in supernet.sam.prompt_encoder.parameters())
    after = supernet.sam.prompt_encoder.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in before.items())


def test_a_loss_that_is_not_finite_raises_and_leaves_the_weights(supernet, batch, space):
    optimiser = torch.optim.AdamW(supernet.trained_parameters(), lr=0.1)
    sandwich_step(supernet, [batch], [space.largest], optimiser, StepSettings())
    with torch.no_grad():  # in a layer that the smallest subnet does not have
        supernet.sam.image_encoder.blocks[0].attn.proj.bias.fill_(float("nan"))
    before, moments = state_of(supernet), copy.deepcopy(optimiser.state_dict())
    with pytest.raises(FloatingPointError, match="nan"):
        sandwich_step(supernet, [batch], [space.smallest, space.largest], optimiser, StepSettings())
    exactly = {"rtol": 0, "atol": 0, "equal_nan": True}
    torch.testing.assert_close(state_of(supernet), before, **exactly)
    torch.testing.assert_close(optimiser.state_dict()["state"], moments["state"], **exactly)


def test_a_gradient_that_is_not_finite_raises_and_leaves_the_weights(supernet, batch, space):
    optimiser = sgd(supernet)
    bias = supernet.sam.image_encoder.blocks[1].attn.proj.bias
    bias.register_hook(lambda gradient: gradient * float("inf"))
    before = state_of(supernet)
    with pytest.raises(FloatingPointError):
        sandwich_step(supernet, [batch], [space.largest], optimiser, StepSettings())
    assert largest_difference(state_of(supernet), before) == 0


def _step_on_share(pictures: Path, rank: int, world_size: int) -> Supernet:
    supernet = Supernet(tiny_sam())
    optimiser = sgd(supernet, rate=0.01)
    for step in range(2):
        share = training_batch(
            Pictures(pictures),
            step,
            seed=0,
            batch_size=4,
            image_size=64,
            max_objects=4,
            prompts="mixed",
            augment=AugmentSettings(),
            rank=rank,
            world_size=world_size,
        )
        subnets = sandwich_subnets(SPACE, step, seed=0, n_random=1)
        sandwich_step(supernet, [share], subnets, optimiser, UNCLIPPED)
    return supernet


def _train_on_share(pictures: Path, rank: int, world_size: int) -> tuple[Supernet, list[bool]]:
    supernet = Supernet(tiny_sam())
    checkpoints = []
    train_supernet(
        supernet,
        SPACE,
        Pictures(pictures),
        TrainingSettings(batch_size=2, checkpoint_every=1),
        steps=2,
        horizon=2,
        prompts="mixed",
        seed=0,
        checkpoint=None,
        report=lambda metrics, folder: checkpoints.append(folder is not None),
        rank=rank,
        world_size=world_size,
    )
    return supernet, checkpoints


def _worker(rank: int, pictures: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    stepped = _step_on_share(pictures, rank, 2)
    trained, checkpoints = _train_on_share(pictures, rank, 2)
    dist.destroy_process_group()
    result = {
        "stepped": stepped.sam.state_dict(),
        "trained": trained.sam.state_dict(),
        "checkpoints": checkpoints,
    }
    torch.save(result, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def two_processes(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_processes")
    torch.multiprocessing.spawn(_worker, (splits / "train.parquet", folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_end_with_the_weights_of_one(splits, two_processes):
    whole = state_of(_step_on_share(splits / "train.parquet", 0, 1))
    half = state_of(_step_on_share(splits / "train.parquet", 0, 2))  # nobody to average with
    for result in two_processes:
        assert largest_difference(result["stepped"], whole) < 1e-5
    assert largest_difference(half, whole) > 1e-4


def test_two_processes_stay_equal_to_the_bit(two_processes):
    first, second = two_processes
    for kind in ("stepped", "trained"):
        assert largest_difference(first[kind], second[kind]) == 0


def test_only_process_0_writes_checkpoints(two_processes):
    assert [result["checkpoints"] for result in two_processes] == [
        [True, True],
        [False, False],
    ]


@pytest.mark.parametrize(
    ("subnets", "shared"),
    [
        ([Subnet((0, 1), (8, 8)), Subnet((0, 1), (8, 4))], 1),
        ([Subnet((0, 1), (8, 8)), Subnet((0,), (8,))], 1),
        ([Subnet((1, 2), (8, 8)), Subnet((1, 2), (8, 8))], 3),
        ([Subnet((1, 2), (8, 8)), Subnet((1, 3), (8, 8))], 2),
        ([Subnet((0, 1), (8, 8)), Subnet((1,), (8,))], 0),
        ([Subnet((0, 3), (8, 8))], 4),
    ],
)
def test_the_layers_that_all_subnets_of_a_step_have_alike_are_counted(subnets, shared):
    assert shared_layers(subnets, ()) == shared
    assert shared_layers(subnets, (2,) * 4) == shared


@pytest.mark.parametrize(
    ("heads", "shared"), [((), 2), ((4, 4), 2), ((4, 2), 1), ((2, 4), 0), ((2, 2), 0)]
)
def test_layers_with_fewer_heads_are_not_alike(heads, shared):
    whole, other = Subnet((0, 1), (8, 8)), Subnet((0, 1), (8, 8), heads)
    assert shared_layers([whole, other], (4, 4)) == shared
    assert shared_layers([other, other], (4, 4)) == 2


def test_layers_run_once_for_all_subnets_give_the_same_gradients(supernet, batch):
    subnets = [Subnet((0, 1, 2), (64, 128, 128)), Subnet((0, 1, 2), (64, 16, 64))]
    ran = []
    supernet.sam.image_encoder.blocks[0].norm1.register_forward_hook(lambda *_: ran.append(0))
    supernet.sam.image_encoder.blocks[1].norm1.register_forward_hook(lambda *_: ran.append(1))
    parameters = dict(_trained(supernet))
    own = [
        torch.autograd.grad(
            batch_loss(supernet, batch, subnet), parameters.values(), materialize_grads=True
        )
        for subnet in subnets
    ]
    ran.clear()
    sandwich_step(supernet, [batch], subnets, sgd(supernet), UNCLIPPED)
    assert ran == [0, 1, 1]
    for (name, p), *gradients in zip(parameters.items(), *own, strict=True):
        mean = torch.stack(gradients).mean(0)
        found = torch.zeros_like(p) if p.grad is None else p.grad
        scale = float(mean.abs().max()) + 1e-6
        torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-5 * scale, msg=name)
